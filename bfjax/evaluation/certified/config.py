"""The options of `bfjax certify`; nothing heavy is imported for a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bfjax.evaluation.config import ModelsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertifyConfig(ModelsConfig):
    """Proves, but for a chance of alpha each, that no light up to some strength changes answers.

    The answer is the one that a model gives most often under random light. For each model writes
    OUT/MODEL/certificates.json, certificates.png and records.csv. An interrupted run started again
    with the same options goes on where it stopped; models may be added.
    """

    sigma: float = 0.05
    """Standard deviation of each coefficient of the random light, whose log field is a polynomial
    of degree 4. A larger one certifies more to models that stand it."""
    num_samples: int = 1000
    """Random lights that certify an image."""
    num_guess: int = 100
    """Further random lights, before those, that choose the answer."""
    alpha: float = 0.001
    """The chance that a certificate is wrong, at most."""
    headroom: float = 1.0
    """Images are stored at that share of their brightness, so that light has room below white, and
    brought back before the model sees them."""
    radii: tuple[float, ...] = (0.025, 0.05, 0.1)
    """Root mean squares of the log field that are reported; others may be asked for later."""
    batch_size: int = 8
    """Random lights that each device puts on an image at once. Few stay in a processor's caches,
    many keep an accelerator busy; no result depends on it."""
    out: Path = Path("bfjax-certify")
    """Folder for the results."""
