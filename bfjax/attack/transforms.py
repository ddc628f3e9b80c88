"""Optax transformations that optax lacks: the pieces of MI-FGSM, TI-FGSM and steps on L2, L1.

They act on each leaf of the gradient alone, so they drive any parameters: pixels, a free log
field, or the coefficients and control points of a bias field.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax.numbers import Number, Numbers, check_numbers, named
from bfjax.types import as_pytree

Norm = Literal["linf", "l2", "l1"]
"""The largest absolute value, the Euclidean norm, or the sum of absolute values."""


def with_hyperparameters(
    make: Callable[..., optax.GradientTransformation], **hyperparameters: Any
) -> optax.GradientTransformationExtraArgs:
    """`make(**hyperparameters)`, its numbers leaves of the attack.

    Sweeping them compiles nothing anew; they may be traced, mapped and differentiated. Plain
    `optax.adam(0.03)` serves as well, but is static: another rate is another program.

    Args:
      make: of optax or your own. Attacks are equal, and share a program, where it is the same
        function; `functools.partial` of it holds options that are no numbers.
      **hyperparameters: numbers, pytrees of numbers, or `None`.

    Returns:
      The transformation.

    Raises:
      ValueError: for what is no number, such as a flag or a schedule, and for what `make` does not
        take.

    Example:
      >>> adam = with_hyperparameters(optax.adam, learning_rate=0.5)
      >>> update, _ = adam.update(jnp.ones(1), adam.init(jnp.ones(1)))
      >>> update.round(3).tolist(), jax.tree.leaves(adam)
      ([-0.5], [0.5, 0.5])
    """
    for name, value in hyperparameters.items():
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, bool) or callable(leaf):
                raise ValueError(
                    f"{name}={leaf!r} is no number: hold it by functools.partial of the function"
                )
            check_numbers(**{name: leaf})
    try:
        inspect.signature(make).bind(**hyperparameters)  # `make` is called much later
    except TypeError as error:
        raise ValueError(f"{make!r} cannot be called so: {error}") from error
    return _later(make, (), named(**hyperparameters))


def chain(*pieces: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`optax.chain`, whose pieces keep their numbers as leaves.

    Args:
      *pieces: applied in this order.

    Returns:
      The transformation.

    Raises:
      ValueError: for what is no transformation.

    Example:
      >>> both = chain(normalize("l1"), steepest("linf", 0.5))
      >>> both.update(jnp.asarray([3.0, -1.0]), both.init(jnp.ones(2)))[0].tolist()
      [-0.5, 0.5]
    """
    for piece in pieces:
        if not isinstance(piece, optax.GradientTransformation):
            raise ValueError(f"chain takes gradient transformations, got {piece!r}")
    return _later(optax.chain, tuple(map(as_pytree, pieces)), named())


def _later(make: Any, pieces: tuple, numbers: Numbers) -> optax.GradientTransformationExtraArgs:
    """What `make` makes, made only when it is called: until then all that it needs is leaves."""
    bound = as_pytree(make), pieces, numbers
    return optax.GradientTransformationExtraArgs(Partial(_init, *bound), Partial(_update, *bound))


def _init(make: Any, pieces: tuple, numbers: Numbers, params: Any) -> Any:
    return make(*pieces, **numbers.by_name()).init(params)


def _update(
    make: Any, pieces: tuple, numbers: Numbers, updates: Any, state: Any, params: Any = None, **rest
) -> Any:
    made = optax.with_extra_args_support(make(*pieces, **numbers.by_name()))
    return made.update(updates, state, params, **rest)


@functools.cache  # one function a norm: equal attacks share a compilation
def normalize(norm: Norm) -> optax.GradientTransformation:
    """Divides each leaf by its norm, g / ‖g‖; a leaf of zeros stays zero.

    Args:
      norm: `"l1"` (Dong et al.'s), `"l2"` or `"linf"`.

    Returns:
      A stateless transformation.

    Raises:
      ValueError: for another norm.

    Example:
      >>> update, _ = normalize("l1").update(jnp.asarray([3.0, -1.0]), optax.EmptyState())
      >>> update.tolist()
      [0.75, -0.25]

    Reference: Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018, Eq. 6.
    """
    scaled = functools.partial(_unit, norm=check_norm(norm))
    return optax.stateless(lambda updates, _: jax.tree.map(scaled, updates))


def _unit(g: Array, *, norm: Norm) -> Array:
    size = norm_of(g, norm)
    return g / jnp.where(size > 0, size, 1).astype(g.dtype)


def gaussian_smoothing(*, size: int = 15, sigma: Number = 7 / 3) -> optax.GradientTransformation:
    """The gradient convolved with a Gaussian along its first two axes, w * g (TI-FGSM).

    Leaves of fewer than two axes are left alone. For a bias field, whose parameters are no image,
    `smooth_gradient` smooths where the gradient still is one.

    Args:
      size: of the kernel, an odd number of pixels.
      sigma: of the Gaussian, in pixels.

    Returns:
      A stateless transformation.

    Raises:
      ValueError: for an even size or a sigma that is not positive.

    Example:
      >>> g = jnp.zeros((3, 3)).at[1, 1].set(1.0)
      >>> update, _ = gaussian_smoothing(size=3, sigma=1.0).update(g, optax.EmptyState())
      >>> round(float(update[1, 1]), 3)
      0.204

    Reference: Dong et al., Evading Defenses by Translation-Invariant Attacks, CVPR 2019, Eq. 7.
    """
    check_kernel(size, sigma)
    return with_hyperparameters(_smoothing(size), sigma=sigma)


@functools.cache
def _smoothing(size: int) -> Callable[..., optax.GradientTransformation]:
    def make(*, sigma: Number) -> optax.GradientTransformation:
        one = functools.partial(smoothed, kernel=gaussian_kernel(size, sigma))
        return optax.stateless(
            lambda updates, _: jax.tree.map(lambda g: one(g) if g.ndim >= 2 else g, updates)
        )

    return make


def steepest(norm: Norm, step_size: Number) -> optax.GradientTransformation:
    """A step of a length along the gradient: η sign(g) on L∞, η g / ‖g‖ on L2 and L1.

    On L∞ and L2 no step of that length raises a linear loss more; on L1 that would be one along the
    largest entry alone, and this one spreads it. Each leaf of the params has a step of its own.

    Args:
      norm: in which the step is measured.
      step_size: its length (on L∞ of every entry).

    Returns:
      A stateless transformation, handed the gradient of what is to be lowered.

    Raises:
      ValueError: for another norm.

    Example:
      >>> update, _ = steepest("l2", 0.5).update(jnp.asarray([3.0, -4.0]), optax.EmptyState())
      >>> [round(x, 6) for x in update.tolist()]
      [-0.3, 0.4]
    """
    if check_norm(norm) == "linf":
        return with_hyperparameters(optax.sign_sgd, learning_rate=step_size)
    return with_hyperparameters(_ALONG[norm], step_size=step_size)


def _along(norm: Norm, *, step_size: Any) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: -step_size * _unit(g, norm=norm), updates)
    )


_ALONG = {norm: functools.partial(_along, norm) for norm in get_args(Norm)}


def smoothed(
    x: Float[Array, "h w *rest"], kernel: Float[Array, " size"]
) -> Float[Array, "h w *rest"]:
    """Convolves along the first two axes with a symmetric kernel, zeros beyond the border.

    Args:
      x: (h, w, ...).
      kernel: weights of an odd number of neighbours.

    Returns:
      The same shape.

    Example:
      >>> smoothed(jnp.ones((1, 2)), jnp.asarray([0.25, 0.5, 0.25])).tolist()
      [[0.375, 0.375]]
    """
    reach = len(kernel) // 2
    kernel = kernel.astype(x.dtype)
    for axis in (0, 1):
        # shifted sums: inside a loop XLA's CPU backend runs them fast, whatever the gradient
        padded = jnp.pad(x, [(reach, reach) if i == axis else (0, 0) for i in range(x.ndim)])
        n = x.shape[axis]
        shifts = (jax.lax.slice_in_dim(padded, k, k + n, axis=axis) for k in range(len(kernel)))
        x = functools.reduce(jnp.add, (w * s for w, s in zip(kernel, shifts, strict=True)))
    return x


def norm_of(x: Array, norm: Norm) -> Array:
    """‖x‖ over all entries, in at least float32.

    Args:
      x: any shape.
      norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
      A scalar; its slope at x = 0 is 0.

    Example:
      >>> norm_of(jnp.asarray([[3.0], [-4.0]]), "l2").item()
      5.0
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if norm == "linf":
        return jnp.max(jnp.abs(x), initial=0)
    if norm == "l1":
        return jnp.sum(jnp.abs(x))
    # squares of what is very small or large are 0 or infinite; a power of two changes no digit
    largest, room = jnp.max(jnp.abs(x), initial=0), -6 - int(jnp.finfo(x.dtype).minexp)
    exponent = jnp.frexp(jax.lax.stop_gradient(largest))[1].clip(-room, room)
    one = jnp.ones((), x.dtype)
    squared = jnp.sum((x * jnp.ldexp(one, -exponent)) ** 2)
    # the slope of √ is infinite at 0, where the norm's is taken to be 0
    root = jnp.where(squared == 0, 0, jnp.sqrt(jnp.where(squared == 0, 1, squared)))
    return root * jnp.ldexp(one, exponent)


def check_norm(norm: Norm) -> Norm:
    """The norm itself, or a ValueError for one that is unknown.

    Args:
      norm: its name.

    Returns:
      The name.

    Example:
      >>> check_norm("l2")
      'l2'
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
    return norm


def gaussian_kernel(size: int, sigma: Number) -> Float[Array, " size"]:
    """The weights of a sampled Gaussian, their sum one.

    Args:
      size: an odd number of pixels.
      sigma: in pixels.

    Returns:
      (size,), float32.

    Raises:
      ValueError: for an even size or a sigma that is not positive.

    Example:
      >>> gaussian_kernel(3, 1.0).round(3).tolist()
      [0.274..., 0.452..., 0.274...]
    """
    check_kernel(size, sigma)
    away = jnp.arange(size) - size // 2
    weights = jnp.exp(-0.5 * jnp.square(away / sigma))
    return weights / weights.sum()


def check_kernel(size: int, sigma: Number) -> None:
    """Makes sure that there is such a Gaussian.

    Args:
      size: an odd number of pixels.
      sigma: in pixels.

    Raises:
      ValueError: for an even size or a sigma that is not positive.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a kernel has an odd size, got {size}")
    check_numbers(above=0, sigma=sigma)
