"""Which audits can be ranked against each other, and in which order."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bfjax.evaluation.standard import UNEVEN
from bfjax.report.standard.loading import Audited


class Group(NamedTuple):
    """Audits that can be ranked against each other.

    Attributes:
      audits: the one that takes most first.
      row: the kind of exposure that they are ranked by.
    """

    audits: list[Audited]
    row: str

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the first, in much of which all are alike."""
        return self.audits[0].audit["settings"]


def ranked_by(audit: dict[str, Any]) -> str:
    """The kind of exposure by which an audit is ranked.

    Args:
      audit: its entries.

    Returns:
      That of uneven light alone, where it was tested; otherwise the first.
    """
    return UNEVEN if UNEVEN in audit["rows"] else next(iter(audit["rows"]))


_ALIKE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "images": lambda audit: audit["settings"]["images"],
    "split": lambda audit: audit["settings"]["split"],
    "log-ranges": lambda audit: tuple(audit["settings"]["ranges"]),
    "encoding": lambda audit: (
        audit["settings"]["encoding"],
        audit["settings"]["encoding"] == "log" and audit["settings"]["gamma"],
    ),
    "exposures": ranked_by,
    "number of random lights": lambda audit: audit["settings"].get("num_random"),
    "universal light": lambda audit: (
        (steps := audit["settings"].get("universal_steps"))
        and (steps, audit["settings"].get("fit_images"), audit["settings"]["exposures"][0])
    ),
}
"""What audits must have in common to be ranked against each other."""


def rank(audits: Sequence[Audited]) -> tuple[list[Group], list[str]]:
    """Ranks audits, those together that can be.

    Args:
      audits: of any images.

    Returns:
      The groups, the largest first, and in what they differ.
    """
    groups: dict[tuple[Any, ...], list[Audited]] = collections.defaultdict(list)
    for one in audits:
        groups[tuple(key(one.audit) for key in _ALIKE.values())].append(one)
    differ = [name for k, name in enumerate(_ALIKE) if len({values[k] for values in groups}) > 1]
    found = [Group(sorted(of_one, key=_order), ranked_by(of_one[0].audit))
             for of_one in groups.values()]  # fmt: skip
    return sorted(found, key=lambda group: -len(group.audits)), differ


def _order(one: Audited) -> tuple[Any, ...]:
    row = one.audit["rows"][ranked_by(one.audit)]
    takes = math.inf if row["takes"] is None else row["takes"]
    worst = [-tier["accuracy"] for tier in reversed(row["tiers"])]
    return -takes, worst, -one.audit["clean"]["accuracy"], one.name
