"""The worst that light within a log-range does to one image: the union of several attacks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Int, Scalar

from bfjax.attack import (
    annealed,
    binary_cross_entropy,
    binary_margin,
    cross_entropy,
    is_wrong,
    margin,
    run,
    step_halving,
)
from bfjax.field import Encoding
from bfjax.numbers import Number
from bfjax.robustness.exposure_scan import is_exposure_alone, scan_exposures
from bfjax.robustness.random_search import margin_of, random_search
from bfjax.robustness.threat import Exposure, Threat, light
from bfjax.types import Attack, Image, Label, Logits, Params, Predict, PRNGKey, Search, as_key


class WorstCase(NamedTuple):
    """The light that harms most, of all that was found.

    Attributes:
      params: c.
      adversarial: the image under that light.
      logits: what the classifier says of it.
      wrong: whether the classifier errs.
      margin: how far it errs, see `bfjax.attack.margin`; not positive where it does not.
      member: which attack found it, counted along `attacks_within`.
    """

    params: Params
    adversarial: Image
    logits: Logits
    wrong: Bool[Array, ""]
    margin: Scalar
    member: Int[Array, ""]


def attacks_within(threat: Threat, *, findings: bool = False) -> dict[str, Attack | Search]:
    """The attacks whose union is the worst case, none of which has a parameter to choose.

    Each stops at its first success.

    Args:
      threat: what light is allowed.
      findings: whether the classifier is a head of several findings, each right or wrong for
        itself.

    Returns:
      Name to attack: normalised steps of falling length, which of what was compared find most
      (`bfjax.attacks.bounded_field`), from no light and from a random one; Auto-PGD's steps, which
      halve, on the margin and on the cross-entropy; and a search without gradients. Of exposure
      alone, which is one number, the first of them and a scan of all its values.

    Example:
      >>> list(attacks_within(light((32, 32, 1), max_log_range=0.4)))
      ['annealed', 'halving, margin', 'halving, cross-entropy', 'restart', 'random search']

    Reference: Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-free Attacks*, ICML 2020, for the union and the halving.
    """
    losses = (binary_margin, binary_cross_entropy) if findings else (margin, cross_entropy)
    rho = threat.largest
    anywhere = threat.perturbation._replace(init=Partial(_at_random, threat.draw))

    def ascent(loss: Any, optimizer: Any, num_steps: int, perturbation: Any) -> Attack:
        return Attack(
            perturbation=perturbation,
            loss=loss,
            optimizer=optimizer,
            project=threat.within,
            num_steps=num_steps,
            stop=is_wrong,
            # of several classes the highest cross-entropy may be no error, the last iterate is
            iterate="best" if loss is losses[0] else "last",
        )

    falling = annealed("l2", 0.15 * rho, num_steps=30)
    if is_exposure_alone(threat):
        once = ascent(losses[0], falling, 30, threat.perturbation)
        return {"annealed": once, "scan": scan_exposures(threat)}
    halving = step_halving("l2", rho / 2, num_steps=20)
    return {
        "annealed": ascent(losses[0], falling, 30, threat.perturbation),
        "halving, margin": ascent(losses[0], halving, 20, threat.perturbation),
        "halving, cross-entropy": ascent(losses[1], halving, 20, threat.perturbation),
        "restart": ascent(losses[0], falling, 30, anywhere),
        "random search": random_search(threat),
    }


def _at_random(draw: Any, image: Image, key: PRNGKey | None) -> Params:
    del image
    if key is None:
        raise ValueError("a random light needs a key: pass key=jax.random.key(...)")
    return draw(key)


def worst_case(
    predict: Predict,
    image: Image,
    label: Label,
    *,
    max_log_range: Number,
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    key: PRNGKey,
) -> WorstCase:
    """The light within a log-range under which the classifier errs, or comes nearest to it.

    argmax_c margin(f(X·exp(B̂(c))), y) subject to max B̂ − min B̂ ≤ ρ, over all that the attacks of
    `attacks_within` find. That no light was found is no proof that there is none.

    Args:
      predict: the classifier.
      image: (h, w, c) in [0, 1].
      label: the true class; of a head of findings (heads,) of 0 and 1. For one finding k of such a
        head, `lambda x: predict(x)[k : k + 1]` is a classifier of its own.
      max_log_range: ρ; see `bfjax.robustness.TIERS`.
      exposure: see `light`.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      key: of the random start and the random search.

    Returns:
      The worst case: where some attack succeeds, the one that errs most.

    Raises:
      ValueError: see `light`; for labels that do not fit the logits.

    Example:
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> image = jnp.full((16, 16, 1), 0.5)
      >>> found = worst_case(predict, image, 1, max_log_range=0.4, key=jax.random.key(0))
      >>> bool(found.wrong)
      True
    """
    threat = light(
        image.shape, max_log_range=max_log_range, exposure=exposure, encoding=encoding, gamma=gamma
    )
    attacks = attacks_within(threat, findings=bool(jnp.ndim(label)))
    keys = jax.random.split(as_key(key), len(attacks))
    found = []
    for i, (attack, drawn) in enumerate(zip(attacks.values(), keys, strict=True)):
        result = run(attack, predict, image, label, key=drawn)
        wrong, far = is_wrong(result.logits, label), margin_of(result.logits, label)
        one = WorstCase(
            result.params, result.adversarial, result.logits, wrong, far, jnp.asarray(i)
        )
        found.append(one)
    return worst_of(found)


def worst_of(found: list[WorstCase]) -> WorstCase:
    """The one that errs, and of those the one that errs most; else the one that comes nearest.

    Args:
      found: at least one.

    Returns:
      One of them.

    Example:
      >>> nothing = jnp.zeros(1), jnp.zeros((1, 1, 1)), jnp.zeros(2)
      >>> right = WorstCase(*nothing, jnp.asarray(False), jnp.float32(0), jnp.int32(0))
      >>> errs = WorstCase(*nothing, jnp.asarray(True), jnp.float32(2), jnp.int32(1))
      >>> int(worst_of([right, errs]).member)
      1
    """
    best = found[0]
    for new in found[1:]:
        more = (new.wrong & ~best.wrong) | ((new.wrong == best.wrong) & (new.margin > best.margin))
        best = jax.tree.map(lambda n, b, more=more: jnp.where(more, n, b), new, best)
    return best
