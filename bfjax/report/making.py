"""Makes the page: which cases it shows, their pictures in it or beside it."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import NamedTuple

from bfjax import progress, storage
from bfjax.estimate import Estimate
from bfjax.report import standard
from bfjax.report.cases import choose, draw
from bfjax.report.loading import load
from bfjax.report.page import render
from bfjax.report.pictures import Pictures

LIMIT = 20_000_000
"""The page is not larger than this many bytes: the pictures lie beside it otherwise, and of audits
fewer cases are shown."""

_SUMMARY = "summary.json"  # which audits and certificates have not
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


def make_report(
    folder: Path,
    *,
    out: Path | None = None,
    max_cases: int | None = None,
    where: str | None = None,
) -> Report:
    """Makes one web page of what `bfjax attack`, `evaluate`, `audit` or `certify` wrote.

    Args:
      folder: of the results; of audits and certificates, any in which they lie.
      out: the page; `None` for report.html in that folder.
      max_cases: how many cases are drawn; `None` for all, of audits for as many as fit.
      where: the images; `None` for where they lay when they were attacked.

    Returns:
      What was written.

    Raises:
      FileNotFoundError: the folder holds no finished run, or the images are not there.
      ValueError: a file of the folder, or the images, are not what they should be.
    """
    out = out or _page(folder)
    if not (folder / _SUMMARY).exists():
        shown = standard.make_page(folder, out, max_cases=max_cases, where=where, limit=LIMIT)
        return Report(out, shown, None)
    results = load(folder)
    rows = choose(results.runs, max_cases)
    total = sum(map(len, rows))
    held = Pictures(out.with_name(f"{out.stem}-files"), limit=LIMIT - _REST)
    facts = []
    with progress.bar() as bar:
        task = bar.add_task("drawing", total=total)
        for number, (run, chosen) in enumerate(zip(results.runs, rows, strict=True)):
            for case in draw(number, run, chosen, where=where):
                facts.append(case.facts)
                held.add(case.name, case.picture, text=len(json.dumps(case.facts)))
                bar.advance(task)
    page = render(
        results,
        facts,
        held.links(),
        total=sum(run.summary["images"] for run in results.runs),
        sampled=max_cases is not None,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    with storage.replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    held.tidy()
    return Report(out, total, None if held.inside else held.folder)


def _page(folder: Path) -> Path:
    return folder / "report.html"


def of_report(
    folder: Path,
    *,
    out: Path | None = None,
    max_cases: int | None = None,
    where: str | None = None,
) -> Estimate:
    """What the page would take, reckoned from two cases of the first run that has any.

    Args:
      folder: as of `make_report`.
      out: as of `make_report`.
      max_cases: as of `make_report`.
      where: as of `make_report`.

    Returns:
      The estimate.

    Raises:
      FileNotFoundError, ValueError: as `make_report`.
    """
    out = out or _page(folder)
    if not (folder / _SUMMARY).exists():
        return standard.of_page(folder, out, max_cases=max_cases, where=where, limit=LIMIT)
    results = load(folder)
    rows = choose(results.runs, max_cases)
    total = sum(map(len, rows))
    times, pictures = [], []
    for number, (run, chosen) in enumerate(zip(results.runs, rows, strict=True)):
        if chosen and not times:
            for case in draw(number, run, chosen[:2], where=where):
                times.append(time.perf_counter())
                pictures.append(len(case.picture))
    seconds = total * (times[-1] - times[0]) if times else 0.0  # the first one compiled
    size = total * max(pictures, default=0) + _REST // 10
    return Estimate(str(out), f"{total} cases", seconds, size)
