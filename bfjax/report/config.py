"""The options of `bfjax report`; nothing heavy is imported for a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Makes one web page of what `bfjax attack`, `evaluate`, `audit` or `certify` wrote.

    The page needs no network and no server. Where its pictures would make it larger than 20 MB
    they lie beside it, in report-files/; that of audits shows as many cases as fit, the nearest to
    breaking first.
    """

    dir: tyro.conf.Positional[Path]
    """Folder of the results; of audits and certificates, any in which some lie."""
    out: Path | None = None
    """The page; none: report.html in that folder."""
    max_cases: int | None = None
    """Draw only so many cases, of attacks about three in four of them fooled; 0 leaves the gallery
    out."""
    data: str | None = None
    """Where the images lie; none: where they lay when they were attacked."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""
