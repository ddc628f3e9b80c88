"""What a correction before the classifier is worth: how much of its gain an attacker leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from bfjax.attack import check_batch, is_wrong, run_batch
from bfjax.field import Encoding
from bfjax.numbers import Number
from bfjax.robustness import programs
from bfjax.robustness.audit import audit
from bfjax.robustness.corrections import corrected, straight_through
from bfjax.robustness.threat import TIERS, Exposure, Threat, light
from bfjax.robustness.worst_case import attacks_within
from bfjax.types import Attack, Image, Predict, PRNGKey, as_key, as_pytree

ATTACKERS = {
    "oblivious": "made on the classifier alone, which knows nothing of the correction",
    "adaptive": "the whole test of what lies behind the correction, with the gradient through it",
    "straight_through": "along the gradient that takes the correction for the identity (BPDA)",
    "gradient_free": "without a gradient",
}
"""Who attacks a corrected classifier, and how."""


class Judged(NamedTuple):
    """What each attacker reaches against a corrected classifier, of n images at t log-ranges.

    Attributes:
      tiers: (t,), the log-ranges, in rising order.
      clean: (n, classes), logits of the corrected images without light.
      wrong: attacker, of `ATTACKERS`, to (t, n), whether the corrected classifier errs within that
        range.
      gradients: (n,), spent on each image, of which three forward passes are one.
      flags: of the adaptive attacker's `audit`.
    """

    tiers: Float[np.ndarray, " t"]
    clean: Float[np.ndarray, "n classes"]
    wrong: dict[str, Bool[np.ndarray, "t n"]]
    gradients: Float[np.ndarray, " n"]
    flags: dict[str, Any]

    @property
    def worst(self) -> Bool[np.ndarray, "t n"]:
        """Whether any attacker makes it err: what is left of the gain is real."""
        return np.any(list(self.wrong.values()), axis=0)


def judge_correction(
    predict: Predict,
    correct: Callable[[Image], Image],
    images: Float[Array | np.ndarray, "n h w c"],
    labels: Integer[Array | np.ndarray, "n ..."],
    *,
    tiers: Sequence[float] = tuple(TIERS.values()),
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    num_random: int = 32,
    batch_size: int = 16,
    names: list[str] | None = None,
    key: PRNGKey,
    on_gradients: Callable[[float], object] | None = None,
) -> Judged:
    """Attacks a classifier behind a correction, by all who may attack it.

    The oblivious attacker and the one who takes the correction for the identity take normalised
    steps, the first of `attacks_within`. The adaptive one makes the whole `audit` of the corrected
    classifier, so that this has withstood no less than the bare one. Who makes an image err within
    a range does so within every larger one: the others go through the ranges in rising order, and
    an image leaves an attacker once it errs.

    Args:
      predict: the classifier without the correction.
      correct: of one image to the corrected one.
      images: (n, h, w, c) in [0, 1], uncorrected.
      labels: (n,), or (n, heads) of findings.
      tiers: log-ranges.
      exposure: see `light`.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      num_random: lights of the adaptive attacker's `audit`.
      batch_size: images at once.
      names: what to call the images where one cannot be used; their numbers by default.
      key: of all that is random.
      on_gradients: called now and then with the gradients spent since, over all images.

    Returns:
      What each reaches, in NumPy.

    Raises:
      ValueError: for no ranges, or ones that are not positive, and as `bfjax.run_batch`.

    Example:
      >>> from bfjax.robustness import correct_polynomial
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> images, labels = jnp.full((2, 16, 16, 1), 0.5), jnp.ones(2, int)
      >>> judged = judge_correction(
      ...     predict, correct_polynomial, images, labels, tiers=[0.4], key=jax.random.key(0)
      ... )
      >>> judged.worst.mean().item()
      0.0

    Reference: Tramèr et al., *On Adaptive Attacks to Adversarial Example Defenses*, NeurIPS 2020.
    """
    check_batch(predict, images, labels, names=names)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not len(tiers):
        raise ValueError("tiers must be at least one log-range, got none")
    images, labels = np.asarray(images), np.asarray(labels)
    threat = light(
        images.shape[1:],
        max_log_range=max(map(float, tiers)),
        exposure=exposure,
        encoding=encoding,
        gamma=gamma,
    )
    rising, size = np.asarray(sorted(map(float, tiers))), min(batch_size, len(images))
    called = names or [f"image {i}" for i in range(len(images))]
    behind, key, spent = corrected(predict, correct), as_key(key), on_gradients or (lambda _: None)

    def errs(params: Any, chosen: np.ndarray) -> np.ndarray:
        """Whether what is behind the correction errs."""
        logits = programs.lit(threat, behind, jnp.asarray(images[chosen]), params)
        if (unknown := np.isnan(np.asarray(logits)).any(1)).any():
            name = called[chosen[unknown.argmax()]]
            raise ValueError(f"the classifier answers NaN at {name} under light")
        return np.asarray(jax.vmap(is_wrong)(logits, jnp.asarray(labels[chosen])))

    whole = audit(
        behind,
        images,
        labels,
        tiers=tiers,
        num_random=num_random,
        exposure=exposure,
        encoding=encoding,
        gamma=gamma,
        batch_size=batch_size,
        names=names,
        key=jax.random.fold_in(key, len(rising)),
        on_gradients=on_gradients,
    )
    wrong = {name: np.tile(whole.smallest == 0, (len(rising), 1)) for name in ATTACKERS}
    wrong["adaptive"] = whole.wrong.copy()
    gradients = whole.gradients.copy()
    for t, rho in enumerate(rising):
        made = _attacks(threat.scaled(rho), predict, correct, findings=labels.ndim > 1)
        for number, (name, attack, against) in enumerate(made):
            drawn = jax.random.fold_in(jax.random.fold_in(key, t), number)
            for chosen, real in programs.batches(np.flatnonzero(~wrong[name][t]), size):
                keys = jax.vmap(lambda i, drawn=drawn: jax.random.fold_in(drawn, i))(chosen)
                batch = jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])
                result = run_batch(attack, against, *batch, key=keys, warn=False)
                here, found = chosen[real], errs(result.params, chosen)[real]
                wrong[name][t:, here] |= found
                most = programs.gradients(attack, result)[real] + 1 / 3
                gradients[here] += most
                spent(most.sum())
    return Judged(rising, whole.clean, wrong, gradients, whole.flags)


def _attacks(
    threat: Threat, predict: Predict, correct: Callable[[Image], Image], *, findings: bool
) -> list[tuple[str, Any, Any]]:
    """(attacker, attack, classifier that it is made on), of those who do not make an audit."""
    bare, behind = as_pytree(predict), corrected(predict, correct)
    attacks = list(attacks_within(threat, findings=findings).values())
    return [
        ("oblivious", attacks[0], bare),
        ("straight_through", attacks[0], corrected(predict, straight_through(correct))),
        *(
            ("gradient_free", attack, behind)
            for attack in attacks
            if not isinstance(attack, Attack)
        ),
    ]
