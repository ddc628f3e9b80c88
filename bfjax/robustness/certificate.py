"""A proof, right but for a chance of α, that no light up to some strength changes the answer."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int, Scalar

from bfjax.attack import of_classes
from bfjax.field import Encoding
from bfjax.numbers import Number, check_numbers
from bfjax.robustness.binomial import clopper_pearson
from bfjax.robustness.smoothing import check_counts, check_single, draws, in_chunks, linear_light
from bfjax.types import Image, LinearField, Predict, PRNGKey


class Certificate(NamedTuple):
    """What is certain of the answer under random light, see `certify`.

    Attributes:
      label: the class that random light gives most often; −1 where that is not certain.
      radius: R: no light of ‖c‖₂ < R changes the label, if nothing clips it. For orthonormal fields
        ‖c‖₂ is the root mean square of B̂. 0 where the label is −1.
      safe_radius: R_safe ≤ R, within which no pixel saturates, so that clipping changes nothing.
      log_range: as R, in terms of max B̂ − min B̂: no light of a smaller log-range changes the label.
        It is 2R for an orthonormal field without a constant, and 0, nothing, with one.
      counts: (classes,), how often the classifier gave each class, of `num_samples` lights.
      lower_bound: p_A, on the probability of the class that was guessed.
    """

    label: Int[Array, ""]
    radius: Scalar
    safe_radius: Scalar
    log_range: Scalar
    counts: Int[Array, " classes"]
    lower_bound: Scalar


def certify(
    predict: Predict,
    field: LinearField,
    image: Image,
    *,
    sigma: Number,
    num_guess: int = 100,
    num_samples: int = 1000,
    alpha: Number = 0.001,
    headroom: Number = 1.0,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    chunk_size: int = 8,
    key: PRNGKey,
) -> Certificate:
    """Certifies the answer that a classifier gives most often under random light.

    g(X) = argmax_A P_d[f(clip(X·e^{Φd})) = A], d ~ N(0, σ²I). Light adds up in log intensity, so
    g(X·e^{Φc}) = g(X) for all ‖c‖₂ < R = σ Φ⁻¹(p_A), where p_A > ½ is a lower bound, at confidence
    1 − α, on the probability of A. `num_guess` lights choose A, `num_samples` others bound its
    probability (Clopper–Pearson). Any network will do; nothing of it is looked at.

    What it covers: light of the field's span that nothing clips before the noise is there. The
    attacker multiplies, the defender multiplies, and the clip comes last, as a part of f. A file or
    a detector that cuts off at white is another attacker: it is covered within

        R_safe = min(R, min_p −log(h X_p) / ‖φ_p‖₂)

    where φ_p is what pixel p is of each B̂_k: |B̂(p)| ≤ ‖φ_p‖₂ ‖c‖₂, so no pixel saturates. Black
    pixels never do; one white pixel makes it 0 without headroom. With headroom h < 1 the light
    falls on h·X, and what is stored is divided by h just before the classifier's clip. That changes
    neither the probabilities nor R. Grey values of the encoding `"log"`, X − γ B̂, meet both ends:
    min_p (min(X_p, 1 − X_p) + (1/h − 1)/2) / (γ ‖φ_p‖₂), with ½ + h (X − ½) as what is stored.

    What it does not cover: light outside the span, and whatever else an image undergoes. Rounding
    is no field of the span: to 8 bits it changes the log intensity of a pixel, of the stored value
    x, by up to 0.5/255/x, to 16 bits by up to 0.5/65535/x, x the smaller of the values before and
    after; of the encoding `"log"`, B̂ by up to 0.5/255/(hγ). And a root mean square is no range:
    that of a field whose mean is 0 is at most half its range ρ, and may be as much, so that R
    certifies ρ only where R ≥ ρ/2. With a constant, whose range is 0, no range is certified.

    Images on several devices: `jax.jit(jax.vmap(...))` of a batch that is sharded along its axis of
    images certifies each where it lies.

    Args:
      predict: the classifier; see `smooth` for heads.
      field: a `bfjax.LinearField`: `bfjax.field.legendre` or `cosine`.
      image: (h, w, c) in [0, 1]; under an attacker's light it may go beyond.
      sigma: σ of each coefficient. R is at most σ Φ⁻¹(α^(1/n)), 2.46 σ with the defaults.
      num_guess: lights that choose the class.
      num_samples: n, lights that certify it.
      alpha: α, with what probability a certificate may be wrong.
      headroom: h in (0, 1].
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      chunk_size: lights at once, which changes no result: few stay in a processor's caches, many
        keep an accelerator busy.
      key: of the lights.

    Returns:
      The certificate. An answer with NaN counts for no class.

    Raises:
      ValueError: for a field that is not linear; σ, α or h out of range; less than one sample; an
        encoding or γ that is none.

    Example:
      >>> from bfjax.field import legendre
      >>> predict = lambda x: jnp.stack([0.2 - x.mean(), x.mean() - 0.2])
      >>> field, image = legendre((8, 8), degree=4), jnp.full((8, 8, 1), 0.5)
      >>> found = certify(predict, field, image, sigma=0.05, key=jax.random.key(0))
      >>> int(found.label), found.counts.tolist(), round(float(found.radius), 3)
      (1, [0, 1000], 0.123)

    Reference: Cohen, Rosenfeld and Kolter, *Certified Adversarial Robustness via Randomized
    Smoothing*, ICML 2019, Theorem 1 and section 3.2.2; Li et al., *TSS: Transformation-Specific
    Smoothing for Robustness Certification*, CCS 2021, for transformations that add up.
    """
    check_counts(num_guess=num_guess, num_samples=num_samples, chunk_size=chunk_size)
    check_numbers(above=0, below=1, alpha=alpha)
    check_numbers(above=0, at_most=1, headroom=headroom)
    check_single(alpha=alpha, headroom=headroom, gamma=gamma)
    perturb = linear_light(field, encoding=encoding, gamma=gamma).apply

    def answer(d: Float[Array, " k"]) -> Int[Array, " classes"]:
        logits = of_classes(predict(perturb(d, image)))
        said = jax.nn.one_hot(jnp.argmax(logits), logits.size, dtype=jnp.int32)
        return jnp.where(jnp.isnan(logits).any(), 0, said)

    noise = draws(field, num_guess + num_samples, sigma=sigma, key=key)
    said = in_chunks(answer, noise, chunk_size)
    guess, counts = said[:num_guess].sum(0).argmax(), said[num_guess:].sum(0)
    lower = clopper_pearson(counts[guess], num_samples, alpha=alpha)
    certain = lower > 0.5
    radius = jnp.where(certain, sigma * ndtri(lower), 0)
    room = _room(field, image, headroom, encoding, gamma)
    return Certificate(
        label=jnp.where(certain, guess, -1),
        radius=radius,
        safe_radius=jnp.minimum(radius, room),
        log_range=radius * _range_of_one(field),
        counts=counts,
        lower_bound=lower,
    )


def _room(
    field: LinearField, image: Image, headroom: Number, encoding: Encoding, gamma: Number
) -> Scalar:
    """‖c‖₂ up to which no pixel saturates."""
    if encoding == "log":
        room = (jnp.minimum(image, 1 - image) + (1 / headroom - 1) / 2) / gamma
    else:
        room = -jnp.log(headroom * image)
    size = jnp.linalg.norm(field.basis(), axis=0)[..., None]
    return jnp.maximum(jnp.min(room / jnp.maximum(size, jnp.finfo(size.dtype).tiny)), 0)


def _range_of_one(field: LinearField) -> Scalar:
    """The smallest log-range of all fields of ‖c‖₂ = 1, from below.

    ρ/2 ≥ std(B̂) ≥ √λ ‖c‖₂, with λ the smallest eigenvalue of the covariance of the B̂_k over the
    pixels (Popoviciu): 1 of orthonormal ones without a constant, 0 where one is in their span.
    """
    basis = field.basis()
    away = (basis - basis.mean((1, 2), keepdims=True)).reshape(len(basis), -1)
    covariance = jnp.matmul(away, away.T, precision="highest") / away.shape[1]
    least = jnp.linalg.eigvalsh(covariance)[0]
    rounding = 1e-6 * jnp.trace(covariance)
    return 2 * jnp.sqrt(jnp.where(least > rounding, least, 0))
