"""The contracts of bfjax: what an image, a classifier and the pieces of an attack are.

Convention:
    An image is one array of shape (h, w, c), float, in [0, 1]; c is 1 (grey) or 3 (RGB).
    Pixel (row, column) has the coordinates (x, y) with x to the right and y down, both in
    [-1, 1] from the first to the last pixel centre.
    Every function here is written for ONE image; batches are made outside, by `jax.vmap`.

Callables that hold tables or weights are pytrees (see `as_pytree`): their arrays travel through
`jax.jit` as arguments, everything else about them is static.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Scalar, UInt32

Image = Float[Array, "h w c"]
"""One image in [0, 1], grey (c = 1) or RGB (c = 3)."""
Logits = Float[Array, " classes"]
"""What a classifier says of one image, before a softmax."""
LogField = Float[Array, "h w"]
"""B̂ = log B at every pixel of one image (Eq. 2)."""
Label = Int[Array, "..."] | int
"""The true class; for a multi-label head (heads,) of 0 and 1."""
PRNGKey = Key[Array, ""] | UInt32[Array, " data"]
"""A typed key, from `jax.random.key`, or one of the older sort, from `jax.random.PRNGKey`."""
Params = PyTree
"""What an attack moves: any pytree of arrays."""

Predict = Callable[[Image], Logits]
"""A classifier: one image in [0, 1] to its logits; normalisation happens inside."""

Loss = Callable[[Logits, Label], Scalar]
"""What the attack raises: `loss(logits, label)`."""


class Field(NamedTuple):
    """A parametrised log bias field B̂ (Eq. 2).

    Attributes:
      init: `() -> params`, the parameters of the identity field, B̂ = 0; of an uncorrected machine
        (`bfjax.field.radiographic`) those of its nominal set-up, whose B̂ is not 0.
      log_field: `params -> (h, w)`, B̂ at every pixel.
    """

    init: Callable[[], Params]
    log_field: Callable[[Params], LogField]


class LinearField(Field):
    """A `Field` linear in its params, one vector (n,): B̂ = Σ c_k B̂_k. That is taken on trust."""

    __slots__ = ()

    def basis(self) -> Float[Array, "n h w"]:
        """The B̂_k, which are the fields of the unit vectors: made on demand, held by no field.

        Returns:
          (n, h, w).

        Raises:
          ValueError: when the params are no vector.

        Example:
          >>> field = LinearField(lambda: jnp.zeros(2), lambda c: c[0] + c[1] * jnp.eye(2))
          >>> field.basis()[1].tolist()
          [[1.0, 0.0], [0.0, 1.0]]
        """
        start = self.init()
        if getattr(start, "ndim", None) != 1:
            shapes = jax.tree.map(jnp.shape, start)
            raise ValueError(f"the params of a LinearField are one (n,), got {shapes}")
        return jax.vmap(self.log_field)(jnp.eye(start.size, dtype=start.dtype))


class Perturbation(NamedTuple):
    """How parameters change an image.

    Attributes:
      init: `(image, key) -> params` where the attack starts; `key` may be `None` unless the
        start is random.
      apply: `(params, image) -> image`, the perturbed image, in [0, 1].
      log_field: `params -> (h, w)`, the B̂ it multiplies by, to look at or measure; `None` where
        the perturbation is no field.
      unclipped: `(params, image) -> image`, what `apply` would make if neither the image nor B̂
        were clipped, to see where they are; `None` where that has no meaning.
    """

    init: Callable[[Image, PRNGKey | None], Params]
    apply: Callable[[Params, Image], Image]
    log_field: Callable[[Params], LogField] | None = None
    unclipped: Callable[[Params, Image], Image] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack: perturbation × loss and penalty × gradient transformation × projection.

    It ascends `loss(predict(apply(params, image)), label) - penalty(params)` (Eq. 5). An `Attack`
    is a pytree: its numbers and the arrays inside its callables are leaves, the rest is static, so
    under `jax.jit` attacks that differ in numbers share a compilation.

    Attributes:
      perturbation: how parameters change the image.
      loss: `(logits, label) -> scalar`, raised.
      optimizer: any optax transformation; as in optax, it is handed the gradient of what is to be
        lowered, here `penalty - loss`. Numbers of `bfjax.attack.with_hyperparameters` are leaves.
      num_steps: how many steps `run` takes, at least 1.
      penalty: `params -> scalar`, lowered, or `None`.
      project: `(params, image) -> params` after each step, or `None`.
      transform: `(key, image) -> image`, drawn anew for each step before the classifier sees the
        image (input diversity, expectation over transformations), or `None`.
      num_draws: over how many draws of `transform` each step's loss is averaged.
      stop: `(logits, label) -> bool`, or `None`: an image for which it holds is left as it is from
        then on. It judges the perturbed image itself, before any `transform`.
      iterate: which iterate is returned, `"last"` (as the paper's) or `"best"`, the one with the
        highest objective.
    """

    perturbation: Perturbation
    loss: Loss = dataclasses.field(metadata={"static": True})
    optimizer: optax.GradientTransformation
    num_steps: int = dataclasses.field(metadata={"static": True})
    penalty: Callable[[Params], Scalar] | None = None
    project: Callable[[Params, Image], Params] | None = None
    transform: Callable[[PRNGKey, Image], Image] | None = None
    num_draws: int = dataclasses.field(default=1, metadata={"static": True})
    stop: Callable[[Logits, Label], Bool[Array, ""]] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )
    iterate: str = dataclasses.field(default="last", metadata={"static": True})

    def __post_init__(self):
        for name in ("perturbation", "optimizer", "penalty", "project", "transform"):
            object.__setattr__(self, name, as_pytree(getattr(self, name)))
        for name in ("num_steps", "num_draws"):
            if (number := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if self.iterate not in ("last", "best"):
            raise ValueError(f"iterate must be 'last' or 'best', got {self.iterate!r}")

    @property
    def max_gradients(self) -> int:
        """Gradients of the classifier that it takes at most."""
        return self.num_steps * (self.num_draws if self.transform else 1)


class AttackState(NamedTuple):
    """What one step hands to the next: the parameters, the optimiser's state, the key.

    `best` is the pair (objective, params) of the best iterate so far, `None` unless the attack
    returns it.
    """

    params: Params
    opt_state: Any
    key: PRNGKey | None
    best: tuple[Scalar, Params] | None = None


class AttackInfo(NamedTuple):
    """What one step records, about the parameters it *started* from.

    Attributes:
      objective: loss − penalty (Eq. 5).
      loss: the loss alone.
      logits: (classes,), of the image the classifier saw (their mean over `num_draws`).
      gradient: the largest absolute entry of the loss's gradient; the penalty's is left out.
      stopped: whether `Attack.stop` held, so that this step and all later ones change nothing.
    """

    objective: Scalar
    loss: Scalar
    logits: Logits
    gradient: Scalar
    stopped: Bool[Array, ""]


class AttackFlags(NamedTuple):
    """Signs that an attack failed for reasons of its own, not for the classifier's strength.

    See Carlini et al., On Evaluating Adversarial Robustness, 2019, section 4.

    Attributes:
      zero_gradient: at some step the gradient of the loss was exactly zero, or not finite.
      saturated: at some step the softmax was exactly 0 or 1 in float32, which hides the gradient;
        of several heads, each sigmoid was.
      not_raised: the objective ended no higher than it began.
    """

    zero_gradient: Bool[Array, ""]
    saturated: Bool[Array, ""]
    not_raised: Bool[Array, ""]


class AttackResult(NamedTuple):
    """The outcome of `run`.

    Attributes:
      adversarial: the perturbed image X_a, in [0, 1].
      params: the parameters that make it, `perturbation.apply(params, image)`.
      logits: (classes,), the classifier's answer to `adversarial`.
      trace: an `AttackInfo` whose leaves have a leading axis of `num_steps`.
      flags: whether something looks wrong; of random restarts, with all of them. `None` from other
        attacks that search.
    """

    adversarial: Image
    params: Params
    logits: Logits
    trace: Any
    flags: AttackFlags | None = None


@runtime_checkable
class Search(Protocol):
    """An attack that is no single ascent but a search, such as Carlini and Wagner's.

    It is a pytree, as an `Attack` is, in whose place `bfjax.run` and `bfjax.run_batch` take it.
    """

    @property
    def max_gradients(self) -> int:
        """Gradients of the classifier that it takes at most; three forward passes count as one."""
        ...

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image."""
        ...


def as_key(key: Any) -> Any:
    """Makes a typed key of whatever stands for a key: what takes a `key` calls this first.

    Args:
      key: a typed key, or the bits of one as `jax.random.PRNGKey` gives them; or several of
        either, along leading axes; or `None`.

    Returns:
      The same as typed keys, which draw the same numbers; `None` stays.

    Raises:
      ValueError: for anything else, such as a seed.

    Example:
      >>> import jax
      >>> as_key(jax.random.PRNGKey(0)) == jax.random.key(0)
      Array(True, dtype=bool)
      >>> as_key(0)
      Traceback (most recent call last):
      ...
      ValueError: key must be a key such as jax.random.key(0), got 0
    """
    if key is None:
        return None
    kind, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    if kind is not None and jax.dtypes.issubdtype(kind, jax.dtypes.prng_key):
        return key
    if kind == np.uint32 and shape[-1:] == jax.random.key_data(jax.random.key(0)).shape:
        return jax.random.wrap_key_data(key)
    got = repr(key) if kind is None or not shape else f"an array {kind}{list(shape)}"
    raise ValueError(f"key must be a key such as jax.random.key(0), got {got}")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Skeleton:
    """The static half of a callable pytree: its structure, and its leaves that are no arrays."""

    treedef: Any
    leaves: tuple


def _call(skeleton: _Skeleton, arrays: list, *args: Any) -> Any:
    leaves = [a if s is None else s for a, s in zip(arrays, skeleton.leaves, strict=True)]
    return jax.tree.unflatten(skeleton.treedef, leaves)(*args)


def as_pytree(function: Any) -> Any:
    """Turns a callable into one that `jax.jit` takes as an argument, arrays traced, rest static.

    Plain functions and closures become a static leafless pytree (equal only to themselves);
    callable pytrees such as Equinox or NNX modules keep their arrays as leaves. Tuples of
    callables are turned member by member; `None` and `jax.tree_util.Partial` stay as they are.

    Args:
      function: a callable, a NamedTuple of callables, or `None`.

    Returns:
      The same callable as a pytree.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> double = as_pytree(lambda x: 2 * x)
      >>> jax.jit(lambda f, x: f(x))(double, jnp.asarray(3.0)).item()
      6.0
    """
    if isinstance(function, tuple):
        return type(function)(*map(as_pytree, function))
    if isinstance(function, Partial) or not callable(function):
        return function  # not callable: None, or JAX's placeholder while it rebuilds a pytree
    leaves, treedef = jax.tree.flatten(function)
    if len(leaves) == 1 and leaves[0] is function:
        return Partial(function)
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = [leaf if a else None for leaf, a in zip(leaves, is_array, strict=True)]
    static = tuple(None if a else leaf for leaf, a in zip(leaves, is_array, strict=True))
    return Partial(_call, _Skeleton(treedef, static), arrays)
