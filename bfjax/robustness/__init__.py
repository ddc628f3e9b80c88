"""How much uneven light a classifier takes: the standard test, as pure functions of one image.

- `audit`: the whole test, of a set of images; `FLAGS` says what may be wrong with it.
- `light`: what the test allows, smooth light within a log-range; `TIERS` are the ranges reported.
- `worst_case`: the worst that is found within a log-range, a union of attacks.
- `smallest_range`: how uneven the light must be before the classifier errs; `smallest_rms`
  measures it by its root mean square.
- `misuse`: the worst that a machine's set-up does.
- `hardest`: a light that is hard for a classifier as it is now, in few steps, to train it with.
- `universal`: one light for a whole data set.
- `correct_polynomial`, `correct_homomorphic`: corrections before the classifier (`corrected`);
  `judge_correction` says what they are worth against an attacker, of `ATTACKERS`.
- `certify`: a proof that no light of a certain strength changes the answer that a classifier gives
  most often under random light. `smooth` is the mean of its probabilities, which has a gradient: to
  attack, not to certify.

Those of one image are mapped over batches by `jax.vmap`:

    >>> import jax, jax.numpy as jnp
    >>> from bfjax.robustness import smallest_range
    >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
    >>> images, labels = jnp.full((2, 16, 16, 1), 0.5), jnp.ones(2, int)
    >>> found = jax.jit(jax.vmap(lambda x, y: smallest_range(predict, x, y)))(images, labels)
    >>> [round(float(rho), 2) for rho in found.log_range]
    [0.06, 0.06]
"""

from bfjax.robustness.audit import Audit, audit
from bfjax.robustness.certificate import Certificate, certify
from bfjax.robustness.corrections import (
    correct_homomorphic,
    correct_polynomial,
    corrected,
    straight_through,
)
from bfjax.robustness.exposure_scan import ExposureScan, scan_exposures
from bfjax.robustness.flags import FLAGS
from bfjax.robustness.hardest import MAX_STEPS, Hardest, hardest
from bfjax.robustness.judging import ATTACKERS, Judged, judge_correction
from bfjax.robustness.machine import misuse
from bfjax.robustness.random_search import RandomSearch, margin_of, random_search
from bfjax.robustness.smallest_range import SmallestRange, smallest_range
from bfjax.robustness.smallest_rms import SmallestRMS, smallest_rms
from bfjax.robustness.smoothing import smooth
from bfjax.robustness.threat import DEGREE, TIERS, Exposure, Threat, light
from bfjax.robustness.universal import Universal, universal
from bfjax.robustness.worst_case import WorstCase, attacks_within, worst_case, worst_of

__all__ = [
    "ATTACKERS",
    "DEGREE",
    "FLAGS",
    "MAX_STEPS",
    "TIERS",
    "Audit",
    "Certificate",
    "Exposure",
    "ExposureScan",
    "Hardest",
    "Judged",
    "RandomSearch",
    "SmallestRMS",
    "SmallestRange",
    "Threat",
    "Universal",
    "WorstCase",
    "attacks_within",
    "audit",
    "certify",
    "correct_homomorphic",
    "correct_polynomial",
    "corrected",
    "hardest",
    "judge_correction",
    "light",
    "margin_of",
    "misuse",
    "random_search",
    "scan_exposures",
    "smallest_range",
    "smallest_rms",
    "smooth",
    "straight_through",
    "universal",
    "worst_case",
    "worst_of",
]
