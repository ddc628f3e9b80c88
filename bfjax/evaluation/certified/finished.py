"""What `bfjax certify` left of one model, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bfjax.evaluation.certified.summary import SCHEMA
from bfjax.evaluation.schemas import read_results

_NEEDED = ("model", "settings", "images", "clean", "smoothed", "rms", "log_range", "curve",
           "average_radius", "reach", "chance", "not_covered", "run")  # fmt: skip


def read_certificates(path: Path) -> dict[str, Any]:
    """What certificates amount to.

    Args:
      path: their certificates.json.

    Returns:
      Its entries.

    Raises:
      ValueError: it is broken, or of a newer schema, naming it.
    """
    return read_results(path, newest=SCHEMA, needed=_NEEDED, command="bfjax certify")
