"""The paper's baselines, as its time had them (foolbox up to 2.4) and at a fixed ε."""

from __future__ import annotations

from bfjax.attack.search import minimal, smallest_step
from bfjax.attacks.carlini_wagner import carlini_wagner_l2
from bfjax.attacks.saliency_map import saliency_map
from bfjax.attacks.sign import bim, fgsm, mi_fgsm
from bfjax.types import Attack, Search


def foolbox2() -> dict[str, Attack | Search]:
    """The baselines with the defaults of foolbox 1.8 to 2.4: each seeks the smallest perturbation.

    BIM and MI-FGSM start at ε = 0.3 with steps of 0.05 and 0.06, ten of them, stop at the first
    success, let ε grow by 1.5 up to 20 times and bisect it 20 times; FGSM tries 1000 lengths up to
    1; C&W takes 5 × 1000 steps; the saliency map darkens one entry at a time by 0.1.

    Returns:
      Name to attack, in the paper's order.

    Example:
      >>> list(foolbox2())
      ['bim', 'carlini_wagner_l2', 'saliency_map', 'fgsm', 'mi_fgsm']
    """
    return {
        "bim": minimal(_minimal_bim),
        "carlini_wagner_l2": carlini_wagner_l2(),
        "saliency_map": saliency_map(variant="darken"),
        "fgsm": smallest_step(fgsm(epsilon=1.0)),
        "mi_fgsm": minimal(_minimal_mi_fgsm),
    }


def fixed(*, epsilon: float = 0.1, num_steps: int = 10) -> dict[str, Attack | Search]:
    """The baselines that have an ε, at that ε; the two others as they are.

    Args:
      epsilon: bound of the change, in units of [0, 1].
      num_steps: of the iterative ones.

    Returns:
      Name to attack, in the paper's order.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> fixed()["bim"].num_steps
      10
    """
    step_size = epsilon / 5
    return {
        "bim": bim(epsilon=epsilon, step_size=step_size, num_steps=num_steps),
        "carlini_wagner_l2": carlini_wagner_l2(),
        "saliency_map": saliency_map(variant="darken"),
        "fgsm": fgsm(epsilon=epsilon),
        "mi_fgsm": mi_fgsm(epsilon=epsilon, step_size=step_size, num_steps=num_steps),
    }


# named functions, not lambdas: equal presets then share a compilation
def _minimal_bim(epsilon) -> Attack:
    return bim(epsilon=epsilon, step_size=epsilon * (0.05 / 0.3), num_steps=10, early_stop=True)


def _minimal_mi_fgsm(epsilon) -> Attack:
    return mi_fgsm(epsilon=epsilon, step_size=epsilon * (0.06 / 0.3), num_steps=10, early_stop=True)
