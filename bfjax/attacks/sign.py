"""The FGSM family, on pixels or on a free log field (Eq. 3): one loop, other pieces.

`domain="pixel"` perturbs the image, X_a = X + δ; `domain="log"` is the same attack on the log
field, X_a = X · exp(B̂), the naive bias field of Eq. 3. All steps ascend the loss; the ball is
around the start, and X_a is cut to [0, 1].
"""

from __future__ import annotations

import functools
from typing import Any, Literal, TypedDict, Unpack, get_args

import optax

from bfjax.attack import (
    Norm,
    chain,
    cross_entropy,
    gaussian_smoothing,
    image_ball,
    is_right,
    is_wrong,
    normalize,
    parameter_ball,
    resize_and_pad,
    steepest,
    targeted,
    with_hyperparameters,
)
from bfjax.field import Encoding, additive, free_log_field
from bfjax.numbers import Number, check_numbers
from bfjax.types import Attack, Loss

Domain = Literal["pixel", "log"]

# the paper's ε_a and ε_θ in the log domain; a fifth of ε, foolbox's choice, on pixels
_STEPS = {"pixel": 0.02, "log": 0.06}


class Options(TypedDict, total=False):
    """What every attack of the family takes beside its own arguments; see `bim`."""

    domain: Domain
    encoding: Encoding
    norm: Norm
    loss: Loss
    targeted: bool
    early_stop: bool


def bim(
    *,
    epsilon: Number = 0.1,
    step_size: Number | None = None,
    num_steps: int = 10,
    **options: Unpack[Options],
) -> Attack:
    """BIM: x ← P(x + α sign(∇J)), the basic iterative method.

    Args:
      epsilon: radius of the ball, in units of [0, 1] or of the log field.
      step_size: α; by default 0.02 on pixels and 0.06 on the log field.
      num_steps: iterations.
      **options: `domain`, `"pixel"` (default) or `"log"`, and of the latter the `encoding` of the
        grey values, see `bfjax.bias_field`; `norm` of the ball, `"linf"` (default),
        `"l2"` or `"l1"`, where steps have that length along the gradient (and ε and α usually
        want other values); `loss`, the cross-entropy by default; `targeted`, to move towards the
        label given to `run`; `early_stop`, to leave an image alone as soon as it is fooled (for a
        targeted attack: as soon as the target is reached).

    Returns:
      An `Attack`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda x: jnp.stack([x.mean() - 0.3, 0.3 - x.mean()])
      >>> result = bfjax.run(bim(), predict, jnp.full((2, 2, 1), 0.5), 0)
      >>> round(float(result.adversarial[0, 0, 0]), 6)
      0.4

    Reference: Kurakin et al., Adversarial Examples in the Physical World, 2016.
    """
    return _compose(epsilon, step_size, num_steps, options)


def fgsm(*, epsilon: Number = 0.1, **options: Unpack[Options]) -> Attack:
    """FGSM: x + ε sign(∇J), one step.

    Args:
      epsilon: its length, in units of [0, 1] or of the log field.
      **options: as for `bim`.

    Returns:
      An `Attack`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> fgsm(epsilon=0.05).num_steps
      1

    Reference: Goodfellow et al., Explaining and Harnessing Adversarial Examples, 2014.
    """
    return _compose(epsilon, epsilon, 1, options)


def pgd(
    *,
    epsilon: Number = 0.1,
    step_size: Number | None = None,
    num_steps: int = 10,
    random_start: bool = True,
    **options: Unpack[Options],
) -> Attack:
    """PGD: BIM from a random point of the ball; `run` then needs a key.

    Args:
      epsilon: radius of the ball, in units of [0, 1] or of the log field.
      step_size: α; by default 0.02 on pixels and 0.06 on the log field.
      num_steps: iterations.
      random_start: uniform in ± ε, then put into the ball; False is BIM.
      **options: as for `bim`.

    Returns:
      An `Attack`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> pgd(num_steps=40).num_steps
      40

    Reference: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2017.
    """
    noise = epsilon if random_start else None
    return _compose(epsilon, step_size, num_steps, options, start_noise=noise)


def mi_fgsm(
    *,
    epsilon: Number = 0.1,
    step_size: Number | None = None,
    num_steps: int = 10,
    decay: Number = 1.0,
    **options: Unpack[Options],
) -> Attack:
    """MI-FGSM: g ← μ g + ∇J / ‖∇J‖₁, x ← P(x + α sign(g)).

    Args:
      epsilon: radius of the ball, in units of [0, 1] or of the log field.
      step_size: α; by default 0.02 on pixels and 0.06 on the log field.
      num_steps: iterations.
      decay: μ.
      **options: as for `bim`.

    Returns:
      An `Attack`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> mi_fgsm().num_steps
      10

    Reference: Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018, Eq. 6 and 7.
    """
    return _compose(epsilon, step_size, num_steps, options, decay=decay)


def di_fgsm(
    *,
    epsilon: Number = 0.1,
    step_size: Number | None = None,
    num_steps: int = 10,
    decay: Number | None = None,
    smallest: Number = 0.9,
    probability: Number = 0.5,
    **options: Unpack[Options],
) -> Attack:
    """DIM: BIM (with μ MI-FGSM) through random resizing and padding; `run` needs a key.

    Args:
      epsilon: radius of the ball, in units of [0, 1] or of the log field.
      step_size: α; by default 0.02 on pixels and 0.06 on the log field.
      num_steps: iterations.
      decay: μ, as for `mi_fgsm`; `None` for no momentum.
      smallest: see `bfjax.attack.resize_and_pad`.
      probability: likewise.
      **options: as for `bim`.

    Returns:
      An `Attack`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> di_fgsm().transform is not None
      True

    Reference: Xie et al., Improving Transferability with Input Diversity, CVPR 2019.
    """
    view = resize_and_pad(smallest=smallest, probability=probability)
    return _compose(epsilon, step_size, num_steps, options, decay=decay, transform=view)


def ti_mi_fgsm(
    *,
    epsilon: Number = 0.1,
    step_size: Number | None = None,
    num_steps: int = 10,
    decay: Number = 1.0,
    kernel_size: int = 15,
    sigma: Number = 7 / 3,
    **options: Unpack[Options],
) -> Attack:
    """TI-MI-FGSM: MI-FGSM on the gradient smoothed by a Gaussian, w * ∇J.

    Args:
      epsilon: radius of the ball, in units of [0, 1] or of the log field.
      step_size: α; by default 0.02 on pixels and 0.06 on the log field.
      num_steps: iterations.
      decay: μ.
      kernel_size: of the Gaussian, an odd number of pixels.
      sigma: its width in pixels.
      **options: as for `bim`.

    Returns:
      An `Attack`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> ti_mi_fgsm(decay=0.5).num_steps
      10

    Reference: Dong et al., Evading Defenses by Translation-Invariant Attacks, CVPR 2019, Eq. 8.
    """
    return _compose(
        epsilon, step_size, num_steps, options, decay=decay, kernel=(kernel_size, sigma)
    )


def _compose(
    epsilon: Number,
    step_size: Number | None,
    num_steps: int,
    options: Options,
    *,
    start_noise: Number | None = None,
    decay: Number | None = None,
    kernel: tuple[int, Number] | None = None,
    transform: Any = None,
) -> Attack:
    if unknown := set(options) - set(Options.__annotations__):
        raise TypeError(f"no such option: {sorted(unknown)}")
    domain, norm = options.get("domain", "pixel"), options.get("norm", "linf")
    if domain not in get_args(Domain):
        raise ValueError(f"domain must be one of {get_args(Domain)}, got {domain!r}")
    if step_size is None:
        step_size = _STEPS[domain]
    check_numbers(above=0, epsilon=epsilon, step_size=step_size)
    check_numbers(at_least=0, optional=True, decay=decay)
    loss, aimed = options.get("loss", cross_entropy), options.get("targeted", False)
    stop = is_right if aimed else is_wrong
    if domain == "pixel" and "encoding" in options:
        raise ValueError("an encoding is of a log field, and of no pixels: set domain='log'")
    encoding = options.get("encoding", "linear")
    log_field = functools.partial(free_log_field, encoding=encoding)
    perturbation = additive if domain == "pixel" else log_field
    ball = image_ball if domain == "pixel" else parameter_ball
    pieces = [] if kernel is None else [gaussian_smoothing(size=kernel[0], sigma=kernel[1])]
    if decay is not None:
        pieces += [normalize("l1"), with_hyperparameters(optax.trace, decay=decay)]
    return Attack(
        perturbation=perturbation(start_noise=start_noise),
        loss=targeted(loss) if aimed else loss,
        optimizer=chain(*pieces, steepest(norm, step_size)),
        project=ball(norm=norm, radius=epsilon),
        transform=transform,
        num_steps=num_steps,
        stop=stop if options.get("early_stop", False) else None,
    )
