"""Weights from a hub of models: downloaded once, by the hub's own client."""

from __future__ import annotations

import importlib
from pathlib import Path

PREFIX = "hf:"
"""Weights named so lie on Hugging Face: hf:owner/repository."""
_FILE = "model.safetensors"


def fetch(name: str) -> Path:
    """Downloads weights from Hugging Face, or finds them in its cache.

    Only safetensors are asked for, never a pickle.

    Args:
      name: ``"hf:owner/repository"``, with ``"@revision"`` behind it if one is wanted: a branch,
        a tag or a commit.

    Returns:
      The local file.

    Raises:
      ValueError: the name is not of that form.
      ImportError: the `[hub]` extra is not installed.
      FileNotFoundError: the hub has no such file, or cannot be reached.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if not name.startswith(PREFIX) or repository.count("/") != 1 or "" in repository.split("/"):
        raise ValueError(f"weights of a hub are named 'hf:owner/repository', got {name!r}")
    try:
        # by name: an optional dependency, and a slow import
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError(f"{name} needs the hub extra: pip install 'bfjax[hub]'") from error
    try:
        return Path(hub.hf_hub_download(repository, _FILE, revision=revision or None))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"cannot download {_FILE} of {name}: {error}") from error
