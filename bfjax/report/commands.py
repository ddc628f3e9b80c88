"""`bfjax report`: options are read here, and only here."""

from __future__ import annotations

from bfjax import estimate
from bfjax.report.config import ReportConfig
from bfjax.report.making import make_report, of_report


def report(config: ReportConfig) -> None:
    """The command `bfjax report`: makes the page, then says where it is."""
    options = {"out": config.out, "max_cases": config.max_cases, "where": config.data}
    if config.dry_run:
        estimate.show([of_report(config.dir, **options)])
        return
    made = make_report(config.dir, **options)
    size = f"{made.path.stat().st_size / 1e6:.1f} MB"
    beside = "" if made.folder is None else f", pictures in {made.folder}"
    print(f"{made.path}: {made.cases} cases, {size}{beside}")
