"""The paper's attack, and its baselines as its time had them (foolbox up to 2.4) or at fixed ε."""

from __future__ import annotations

from typing import Any

from bfjax.attack import minimal, smallest_step
from bfjax.attacks.bias import bias_field
from bfjax.attacks.carlini_wagner import carlini_wagner_l2
from bfjax.attacks.saliency_map import saliency_map
from bfjax.attacks.sign import bim, fgsm, mi_fgsm
from bfjax.types import Attack, Search

PAPER: dict[str, Any] = {
    "degree": 10,
    "min_degree": 1,
    "grid_size": 16,
    "terms": "literal",
    "border": "free",
    "max_warp_gradient": None,
    "l1_coefficients": 0.1,
    "l1_warp": 0.0,
    "reduction": "sum",
    "step_size": 0.06,
    "num_steps": 10,
    "iterate": "last",
    "max_change": 0.1,
    "log_field_bound": "clip",
    "extent": (-1.0, 1.0),
}
"""The options of `paper`."""


def paper(image_shape: tuple[int, ...], **changes: Any) -> Attack:
    """The paper's bias field, with what it leaves open as it reproduces the paper's tables best.

    Said by the paper (Eq. 4–7): D = 10, D0 = 1, 16 × 16 control points, ten steps of 0.06. Left
    open: the monomials (those of the literal Eq. 4), λ_a = 0.1 and λ_θ = 0, the norm (a sum), the
    coordinates ([−1, 1]) and a bound (X_a within X ± 0.1). With a MobileNet V1 that is fine-tuned
    from ImageNet weights, as the paper's were, it is 7.9 points from all rows of the paper's two
    tables (root mean square, 128 test images, `experiments/results/calibrate`), and its white-box
    rates fall with D0 as the paper's do. Made on networks that are trained from scratch it fools
    far more than the paper's does.

    It is no bias field as a machine makes one. Its warp leaves the image and folds, which
    `bias_field` does not by default, its rates hang on the number of control points, and the bound
    on each grey value tears the field. The nearest reading that does not fold is 8.9 points off:
    `bias_field(image_shape, terms="count", l1_warp=0.01)`.

    Args:
      image_shape: (h, w) or (h, w, c) of the images to attack.
      **changes: options of `bias_field` that are to be otherwise.

    Returns:
      An `Attack`.

    Raises:
      ValueError: for an `image_shape` that is none, or an option that is out of range.

    Example:
      >>> paper((224, 224)).num_steps
      10

    Reference: Tian et al., *Bias Field Poses a Threat to DNN-based X-ray Recognition*, ICME 2021.
    """
    return bias_field(image_shape, **PAPER | changes)


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
