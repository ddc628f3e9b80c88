"""The mean answer of a classifier under random light, which more light can change only slowly.

Light that is linear in its coefficients adds up, (X·e^{Φc})·e^{Φd} = X·e^{Φ(c+d)}, and so it does
where grey values fall with the logarithm of the exposure, (X − γΦc) − γΦd = X − γΦ(c+d). All that
an attacker's c does to a mean over d ~ N(0, σ²I) is to shift a Gaussian, whatever the network is.
`bfjax.robustness.certify` makes a proof of that.

Convention:
    Nothing is clipped before the attacker's light and the noise are both there: images under an
    attacker's light may leave [0, 1]. The clip comes last, and the classifier sees what it leaves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Shaped

from bfjax.attack import of_classes
from bfjax.field import Encoding, bias_field
from bfjax.numbers import Number, check_numbers
from bfjax.types import (
    Field,
    Image,
    LinearField,
    Logits,
    Perturbation,
    Predict,
    PRNGKey,
    as_key,
    as_pytree,
)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Chunks:
    size: int


def smooth(
    predict: Predict,
    field: LinearField,
    *,
    sigma: Number,
    num_samples: int,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    chunk_size: int = 8,
    key: PRNGKey,
) -> Predict:
    """The mean answer of a classifier under random lights, which are drawn once.

    log p̄, p̄ = 1/n Σ_i softmax(f(clip(X·e^{Φd_i}))), d_i = σ z_i, z = normal(key, (n, k)) of
    `jax.random`. It is the probabilities that are averaged: no single draw outweighs the others,
    and the mean has a gradient where the share of answers, which `certify` counts, has none.

    It is a classifier like any other, so every attack runs on it. It is not the one that `certify`
    speaks of: the mean may prefer a class that few draws give, and are sure of. Its draws are
    fixed: an attack that fits its light to them finds more than there is, the less so the more
    there are.

    Args:
      predict: the classifier. A head of several findings is none: it would be taken for classes.
        Of its finding k, `lambda x: predict(x)[k : k + 1]` is a classifier.
      field: a `bfjax.LinearField`: `bfjax.field.legendre` or `cosine`.
      sigma: σ of each coefficient; of an orthonormal field, the root mean square of B̂ is about
        σ √k.
      num_samples: n.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      chunk_size: lights at once, which changes no result: few stay in a processor's caches, many
        keep an accelerator busy.
      key: of the draws.

    Returns:
      A classifier with the same head: of one logit log p̄_1 − log p̄_0, else log p̄. Weights of
      `predict` and the draws stay leaves.

    Raises:
      ValueError: for a field that is not linear; a σ that is not positive; less than one sample; an
        encoding or γ that is none.

    Example:
      >>> from bfjax.field import legendre
      >>> predict = lambda x: 99 * jnp.stack([0.5 - x.mean(), x.mean() - 0.5])
      >>> field = legendre((8, 8), degree=1, constant=True)
      >>> mean = smooth(predict, field, sigma=0.1, num_samples=100, key=jax.random.key(0))
      >>> image = jnp.full((8, 8, 1), 0.5)
      >>> abs(jax.nn.softmax(mean(image))[1] - 0.5) < 0.1
      Array(True, dtype=bool)

    Reference: Salman et al., *Provably Robust Deep Learning via Adversarially Trained Smoothed
    Classifiers*, NeurIPS 2019, Eq. 5, for the mean of probabilities, and attacks on it.
    """
    check_counts(num_samples=num_samples, chunk_size=chunk_size)
    perturb = linear_light(field, encoding=encoding, gamma=gamma).apply
    noise = draws(field, num_samples, sigma=sigma, key=key)
    return Partial(_smoothed, _Chunks(chunk_size), perturb, noise, as_pytree(predict))


def _smoothed(
    chunks: _Chunks, perturb: Any, noise: Float[Array, "n k"], predict: Any, image: Image
) -> Logits:
    answers = in_chunks(lambda d: predict(perturb(d, image)), noise, chunks.size)
    answers = answers.astype(jnp.promote_types(answers.dtype, jnp.float32))
    logs = jax.nn.log_softmax(jax.vmap(of_classes)(answers))
    mean = jax.nn.logsumexp(logs, axis=0) - math.log(len(noise))
    return mean[1:] - mean[:1] if answers.shape[1] == 1 else mean


def linear_light(field: Any, *, encoding: Encoding, gamma: Number) -> Perturbation:
    """A field whose lights add up, as a perturbation that clips last.

    Args:
      field: what should be a `bfjax.LinearField`.
      encoding: of the grey values.
      gamma: γ of `"log"`.

    Returns:
      `bfjax.bias_field(field)`.

    Raises:
      ValueError: for a field that is not linear; as `bfjax.bias_field`.
    """
    if not isinstance(field, LinearField):
        got = getattr(field, "__name__", None) or type(field).__name__
        if isinstance(field, Field):
            start = field.init()
            kind = f"an array {start.shape}" if hasattr(start, "shape") else type(start).__name__
            got = f"a field whose params are {kind}"
        raise ValueError(
            "light adds up only where it is linear in its coefficients: give a bfjax.LinearField, "
            f"as bfjax.field.legendre and cosine make them; got {got}"
        )
    jax.eval_shape(field.basis)  # raises where its params are no vector
    return bias_field(field, encoding=encoding, gamma=gamma)


def draws(
    field: LinearField, number: int, *, sigma: Number, key: PRNGKey
) -> Float[Array, "number k"]:
    """Coefficients of random lights, N(0, σ²I).

    Args:
      field: of k coefficients.
      number: of lights.
      sigma: σ.
      key: of the draws.

    Returns:
      (number, k).

    Raises:
      ValueError: for a σ that is not positive, or not one number.
    """
    check_numbers(above=0, below=math.inf, sigma=sigma)
    check_single(sigma=sigma)
    start = jax.eval_shape(field.init)
    noise = jax.random.normal(as_key(key), (number, *start.shape), start.dtype)
    return jnp.asarray(sigma, start.dtype) * noise


def in_chunks(
    function: Callable[[Float[Array, " k"]], Shaped[Array, ...]],
    inputs: Float[Array, "n k"],
    chunk_size: int,
) -> Shaped[Array, "n ..."]:
    """`jax.vmap(function)(inputs)`, some at a time, by one program; gradients keep one chunk.

    Args:
      function: of one input.
      inputs: one a row.
      chunk_size: how many at once, at most.

    Returns:
      What it gives for each.
    """
    count = len(inputs)
    chunks = -(-count // chunk_size)
    size = -(-count // chunks)  # chunks as equal as can be, so that few rows fill up the last
    filled = jnp.pad(inputs, ((0, chunks * size - count), (0, 0)))
    some = jax.checkpoint(jax.vmap(function), prevent_cse=False)
    found = jax.lax.map(some, filled.reshape(chunks, size, -1))
    return found.reshape(chunks * size, *found.shape[2:])[:count]


def check_counts(**counts: Any) -> None:
    """Makes sure that numbers of samples are whole and positive.

    Args:
      **counts: by name.

    Raises:
      ValueError: naming the first that is not.
    """
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be at least 1, and whole, got {value}")


def check_single(**numbers: Any) -> None:
    """Makes sure that numbers have no axes.

    Args:
      **numbers: by name.

    Raises:
      ValueError: naming the first that has some.
    """
    for name, value in numbers.items():
        if np.ndim(value):
            raise ValueError(f"{name} is one number, got shape {np.shape(value)}: see jax.vmap")
