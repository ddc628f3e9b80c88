"""The named attacks, each a composition of the pieces in `bfjax.field` and `bfjax.attack`."""

from bfjax.attacks.bias import bias_field
from bfjax.attacks.carlini_wagner import CarliniWagner, carlini_wagner_l2
from bfjax.attacks.presets import fixed, foolbox2, paper
from bfjax.attacks.saliency_map import SaliencyMap, saliency_map
from bfjax.attacks.sign import bim, di_fgsm, fgsm, mi_fgsm, pgd, ti_mi_fgsm

__all__ = [
    "CarliniWagner",
    "SaliencyMap",
    "bias_field",
    "bim",
    "carlini_wagner_l2",
    "di_fgsm",
    "fgsm",
    "fixed",
    "foolbox2",
    "mi_fgsm",
    "paper",
    "pgd",
    "saliency_map",
    "ti_mi_fgsm",
]
