"""`bfjax report`: one web page of what `bfjax attack` or `evaluate` wrote."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import NamedTuple

from bfjax import estimate, progress, records
from bfjax.config import ReportConfig
from bfjax.report.cases import choose, draw
from bfjax.report.loading import load
from bfjax.report.page import render
from bfjax.report.pictures import Pictures

LIMIT = 20_000_000
"""The page is not larger than this many bytes; the pictures lie beside it otherwise."""
_REST = 10**6  # generously what the page has beside its cases


class Report(NamedTuple):
    """What was written.

    Attributes:
      path: the page.
      cases: how many cases it shows.
      folder: where its pictures are; `None` where they are in the page.
    """

    path: Path
    cases: int
    folder: Path | None


def main(config: ReportConfig) -> None:
    """The command `bfjax report`: makes the page, then says where it is."""
    if config.dry_run:
        estimate.show([_estimate(config)])
        return
    report = make(config)
    size = f"{report.path.stat().st_size / 1e6:.1f} MB"
    beside = "" if report.folder is None else f", pictures in {report.folder}"
    print(f"{report.path}: {report.cases} cases, {size}{beside}")


def make(config: ReportConfig) -> Report:
    """Runs `config`.

    Args:
      config: of what, and where to.

    Returns:
      What was written.

    Raises:
      FileNotFoundError: the folder holds no finished run, or the images are not there.
      ValueError: a file of the folder, or the images, are not what they should be.
    """
    results = load(config.dir)
    rows = choose(results.runs, config.max_cases)
    total = sum(map(len, rows))
    out = _out(config)
    held = Pictures(out.with_name(f"{out.stem}-files"), limit=LIMIT - _REST)
    facts = []
    with progress.bar() as bar:
        task = bar.add_task("drawing", total=total)
        for number, (run, chosen) in enumerate(zip(results.runs, rows, strict=True)):
            for case in draw(number, run, chosen, where=config.data):
                facts.append(case.facts)
                held.add(case.name, case.picture, text=len(json.dumps(case.facts)))
                bar.advance(task)
    page = render(
        results,
        facts,
        held.links(),
        total=sum(run.summary["images"] for run in results.runs),
        sampled=config.max_cases is not None,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    with records.replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    held.tidy()
    return Report(out, total, None if held.inside else held.folder)


def _out(config: ReportConfig) -> Path:
    return config.out or config.dir / "report.html"


def _estimate(config: ReportConfig) -> estimate.Estimate:
    """What the page would take, reckoned from two cases of the first run that has any."""
    results = load(config.dir)
    rows = choose(results.runs, config.max_cases)
    total = sum(map(len, rows))
    times, pictures = [], []
    for number, (run, chosen) in enumerate(zip(results.runs, rows, strict=True)):
        if chosen and not times:
            for case in draw(number, run, chosen[:2], where=config.data):
                times.append(time.perf_counter())
                pictures.append(len(case.picture))
    seconds = total * (times[-1] - times[0]) if times else 0.0  # the first one compiled
    size = total * max(pictures, default=0) + _REST // 10
    return estimate.Estimate(str(_out(config)), f"{total} cases", seconds, size)
