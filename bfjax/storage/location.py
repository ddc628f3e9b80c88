"""Where bfjax keeps what it downloads and prepares."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds prepared data sets, downloads and weights.

    The environment variable `BFJAX_HOME` names it; unset or empty, it is `bfjax` in the user's
    cache folder (`XDG_CACHE_HOME`, else `~/.cache`). The folder is not created here.

    Returns:
      An absolute path.

    Example:
      >>> home().is_absolute()
      True
    """
    if named := os.environ.get("BFJAX_HOME"):
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache").absolute() / "bfjax"
