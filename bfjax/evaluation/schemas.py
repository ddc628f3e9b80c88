"""Reads the JSON that a finished test left, whose entries its schema documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_results(path: Path, *, newest: int, needed: Sequence[str], command: str) -> dict[str, Any]:
    """What a test amounts to.

    Args:
      path: the file.
      newest: the schema that is known here.
      needed: entries without which it is none.
      command: that writes such files.

    Returns:
      Its entries.

    Raises:
      ValueError: it is broken, of a newer schema or of something else, naming it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is not valid JSON: run {command} again without it") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, int):
        raise ValueError(f"{path} names no schema: it is not of `{command}`")
    if schema > newest:
        raise ValueError(
            f"{path} is of schema {schema}, this bfjax reads schema {newest}: use a newer bfjax"
        )
    if lacking := [name for name in needed if not found.get(name)]:
        raise ValueError(f"{path}, schema {schema}, has no {lacking[0]}: it is not of `{command}`")
    return found
