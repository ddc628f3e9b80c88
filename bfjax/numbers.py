"""The numbers of an attack: leaves of its pytree, so that sweeping them compiles nothing anew.

A number is a Python or NumPy scalar, an array of no axes, or a traced scalar; `None` stands for a
piece that is absent. Under `jax.jit` all values of a number share one compilation (those of arrays
another one than those of scalars). Numbers may be mapped (`jax.vmap`) and differentiated
(`jax.grad`; searches, which loop until they are done, in forward mode alone, `jax.jvp`). Arrays
(n,) hold one value for each of n images, for `bfjax.run_batch`.

The pieces of an attack hold their numbers in `Numbers`, by name, which `with_numbers` binds to a
function. Values are checked where they are known: a traced number has none.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import textwrap
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Shaped

from bfjax.types import as_pytree

Number = float | int | np.number | Shaped[Array | np.ndarray, "..."]
"""One value, perhaps traced; or, for `bfjax.run_batch`, an array (n,) of one for each image."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers by name.

    Attributes:
      names: of the numbers.
      values: as many; each a number, a pytree of numbers, or `None`.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    values: tuple[Any, ...]

    def by_name(self) -> dict[str, Any]:
        """As keyword arguments."""
        return dict(zip(self.names, self.values, strict=True))


def with_numbers(function: Callable[..., Any], **numbers: Any) -> Partial:
    """A function whose numbers are leaves: called as `function(*args, **numbers)`.

    Args:
      function: a callable; as a pytree it may hold arrays of its own, see `as_pytree`.
      **numbers: numbers, pytrees of numbers, or `None`.

    Returns:
      A pytree that is called with the arguments that are left.

    Example:
      >>> add = with_numbers(lambda x, *, by: x + by, by=2)
      >>> add(1.0), jax.tree.leaves(add)
      (3.0, [2.0])
    """
    return Partial(_with_numbers, as_pytree(function), named(**numbers))


def _with_numbers(function: Any, numbers: Numbers, *args: Any) -> Any:
    return function(*args, **numbers.by_name())


def named(**numbers: Any) -> Numbers:
    """Numbers by name, scalars as floats: 1 and 1.0 are the same number, and the same program's.

    Args:
      **numbers: numbers, pytrees of numbers, or `None`.

    Returns:
      `Numbers`.

    Example:
      >>> named(epsilon=1, decay=None).values
      (1.0, None)
    """
    return Numbers(tuple(numbers), tuple(jax.tree.map(_as_float, v) for v in numbers.values()))


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, int | float | np.number) else value


def has_numbers(*numbers: str, parts: tuple[str, ...] = ()) -> Callable[[type], type]:
    """Makes a frozen dataclass a pytree: some fields are numbers, some parts of it, others static.

    Args:
      *numbers: names of fields that are numbers.
      parts: names of fields that are pytrees of their own.

    Returns:
      A decorator.

    Example:
      >>> @has_numbers("rate")
      ... @dataclasses.dataclass(frozen=True)
      ... class Descent:
      ...     rate: float
      ...     num_steps: int
      >>> jax.tree.map(lambda rate: 2 * rate, Descent(rate=0.5, num_steps=3))
      Descent(rate=1.0, num_steps=3)
    """

    def register(cls: Any) -> Any:
        fields = [field.name for field in dataclasses.fields(cls)]
        static = [name for name in fields if name not in (*numbers, *parts)]

        def flatten(one: Any) -> tuple[Any, tuple]:
            found = Numbers(numbers, tuple(getattr(one, name) for name in numbers))
            own = tuple(getattr(one, name) for name in parts)
            return (found, own), tuple(getattr(one, name) for name in static)

        def unflatten(fixed: tuple, children: Any) -> Any:
            found, own = children
            values = (*getattr(found, "values", ()), *own, *fixed)
            one = object.__new__(cls)  # not checked: JAX also puts placeholders here
            for name, value in zip((*numbers, *parts, *static), values, strict=True):
                object.__setattr__(one, name, value)
            return one

        make = cls.__init__

        @functools.wraps(make)
        def init(one: Any, *args: Any, **kwargs: Any) -> None:
            make(one, *args, **kwargs)
            for name, value in (
                named(**{name: getattr(one, name) for name in numbers}).by_name().items()
            ):
                object.__setattr__(one, name, value)

        cls.__init__ = init
        jax.tree_util.register_pytree_node(cls, flatten, unflatten)
        return cls

    return register


def check_numbers(
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    optional: bool = False,
    **numbers: Any,
) -> None:
    """Makes sure that numbers are numbers, and within bounds, where their values are known.

    Args:
      above: what they exceed.
      at_least: the smallest that is allowed.
      at_most: the largest that is allowed.
      below: what they do not reach.
      optional: whether `None`, for what is absent, is allowed too.
      **numbers: numbers by name.

    Raises:
      ValueError: naming the first that is not.

    Example:
      >>> check_numbers(above=0, step_size=0.1, epsilon=0)
      Traceback (most recent call last):
      ...
      ValueError: epsilon must be positive, got 0
    """
    bounds = ((above, np.greater), (at_least, np.greater_equal), (at_most, np.less_equal))
    for name, value in numbers.items():
        if optional and value is None:
            continue
        if isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a number, or an array of them, got {_short(value)}")
        found = known(value)
        kind = value.dtype if found is None else found.dtype
        if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
            raise ValueError(f"{name} must be a number, got {_short(value)}")
        if np.ndim(value) > 1:
            raise ValueError(f"{name} must be a number, or an array (n,), got {np.shape(value)}")
        if found is None:
            continue
        outside = np.isnan(found)
        for bound, holds in (*bounds, (below, np.less)):
            if bound is not None:
                outside = outside | ~holds(found, bound)
        if outside.any():
            got = f"{found[outside][0]} of image {outside.argmax()}" if found.ndim else value
            too_large = above is None and below == math.inf and np.isposinf(found[outside]).all()
            must = "be finite" if too_large else _within(above, at_least, at_most, below)
            raise ValueError(f"{name} must {must}, got {got}")


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 80)  # in one line


def _within(*bounds: float | None) -> str:
    above, at_least, at_most, below = bounds
    if not any(bound is not None for bound in bounds):
        return "be a number"
    if at_most is None and below in (None, math.inf):
        if above == 0:
            return "be positive" if below is None else "be positive and finite"
        if at_least is not None:
            return "not be negative" if at_least == 0 else f"be at least {at_least:g}"
    if above is None and at_least is None:
        return f"be at most {at_most:g}" if below is None else f"be below {below:g}"
    low = f"[{at_least:g}" if above is None else f"({above:g}"
    return f"be in {low}, " + (f"{at_most:g}]" if below is None else f"{below:g})")


def known(value: Any) -> np.ndarray | None:
    """The value of a number.

    Args:
      value: a number, or an array (n,) of one for each image.

    Returns:
      A NumPy array; `None` where it is traced.

    Example:
      >>> known(0.5)
      array(0.5)
    """
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def check_scalars(attack: Any, *, images: int | None = None) -> None:
    """Makes sure that every number of an attack is one number, or one of each image.

    Args:
      attack: any pytree that holds `Numbers`.
      images: how many there are; `None` allows scalars alone.

    Raises:
      ValueError: naming the number that has another shape.

    Example:
      >>> check_scalars(with_numbers(abs, epsilon=np.ones(3)), images=3)
      >>> check_scalars(with_numbers(abs, epsilon=np.ones(3)))
      Traceback (most recent call last):
      ...
      ValueError: epsilon is one value here, got shape (3,): one of each image goes to run_batch
    """
    for name, value in _numbers_of(attack):
        shape = np.shape(value)
        if shape and images is None:
            raise ValueError(
                f"{name} is one value here, got shape {shape}: one of each image goes to run_batch"
            )
        if shape and shape != (images,):
            raise ValueError(
                f"{name} is one value, or one of each of {images} images; got shape {shape}"
            )


def axes_of_images(attack: Any) -> list[int | None]:
    """For each leaf of an attack, whether it has an axis of images, to be mapped over.

    Args:
      attack: any pytree that holds `Numbers`.

    Returns:
      As many as there are leaves: 0 for an axis, `None` for none.

    Example:
      >>> axes_of_images((np.ones(3), with_numbers(abs, epsilon=np.ones(3), decay=0.5)))
      [None, 0, None]
    """
    found: list[int | None] = []
    for node in jax.tree.leaves(attack, is_leaf=lambda node: isinstance(node, Numbers)):
        if isinstance(node, Numbers):
            found += [0 if np.ndim(value) else None for value in jax.tree.leaves(node)]
        else:
            found.append(None)
    return found


def of_one_image(attack: Any) -> Any:
    """The same with scalars, where a number has one value of each image: to ask for its shapes.

    Args:
      attack: any pytree that holds `Numbers`.

    Returns:
      With the first of several values.

    Example:
      >>> jax.tree.leaves(of_one_image(with_numbers(abs, epsilon=np.ones(3))))
      [np.float64(1.0)]
    """

    def first(node: Any) -> Any:
        if not isinstance(node, Numbers):
            return node
        return jax.tree.map(lambda value: value[0] if np.ndim(value) else value, node)

    return jax.tree.map(first, attack, is_leaf=lambda node: isinstance(node, Numbers))


def _numbers_of(attack: Any) -> list[tuple[str, Any]]:
    nodes = jax.tree.leaves(attack, is_leaf=lambda node: isinstance(node, Numbers))
    return [
        (name, leaf)
        for node in nodes
        if isinstance(node, Numbers)
        for name, value in node.by_name().items()
        for leaf in jax.tree.leaves(value)
    ]
