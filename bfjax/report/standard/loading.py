"""Finds what `bfjax audit` wrote in a folder."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bfjax.evaluation.standard import read_audit


class Audited(NamedTuple):
    """One model's audit.

    Attributes:
      folder: where it lies.
      name: of the model, and where it lies if another one has that name.
      audit: what its audit.json holds.
    """

    folder: Path
    name: str
    audit: dict[str, Any]

    @property
    def has_shards(self) -> bool:
        """Whether what was measured of single images is there; an audit.json may be kept alone."""
        return (self.folder / "shards").is_dir()


def load(folder: Path, *, required: bool = True) -> tuple[list[Audited], list[str]]:
    """All audits of a folder.

    Args:
      folder: of one audited model, of one run of `bfjax audit`, or one in which those lie.
      required: whether there must be one; not where certificates lie there.

    Returns:
      The audits, and where within the folder unfinished ones lie.

    Raises:
      FileNotFoundError: there is no finished one.
      ValueError: naming the audit.json that is broken or too new.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: bfjax report takes one of results")
    whole = (folder / "audit.json").is_file()
    found = [folder] if whole else sorted(path.parent for path in folder.rglob("audit.json"))
    # shards of an attack lie one level higher
    begun = {path.parents[2] for path in folder.rglob("shards/*/*.parquet")} - set(found)
    unfinished = [_within(path, folder) for path in sorted(begun)]
    if unfinished and not found and required:
        raise FileNotFoundError(
            f"{folder} holds an unfinished audit ({', '.join(unfinished)}: shards and no "
            "audit.json): the same bfjax audit goes on where it stopped"
        )
    if not found and required:
        raise FileNotFoundError(
            f"{folder} holds no finished run: neither the summary.json of bfjax attack or bfjax "
            "evaluate, nor an audit.json of bfjax audit, nor a certificates.json of bfjax certify"
        )
    audits = [read_audit(path / "audit.json") for path in found]
    named = [audit["model"].get("name", "") for audit in audits]
    names = named_apart(named, found, folder)
    return [Audited(*one) for one in zip(found, names, audits, strict=True)], unfinished


def named_apart(names: Sequence[str], paths: Sequence[Path], folder: Path) -> list[str]:
    """Names of models, with where they lie where several have one name.

    Args:
      names: those that results give; empty where one gives none.
      paths: where each lies.
      folder: in which all of them do.

    Returns:
      A name of its own for each.
    """
    own = [name or path.name for name, path in zip(names, paths, strict=True)]
    often = collections.Counter(own)
    return [
        name if often[name] == 1 else f"{name} ({_within(path, folder)})"
        for name, path in zip(own, paths, strict=True)
    ]


def _within(path: Path, folder: Path) -> str:
    return path.name if path == folder else path.relative_to(folder).as_posix()
