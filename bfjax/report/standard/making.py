"""Makes the page of audits."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

from bfjax import progress, storage
from bfjax.estimate import Estimate
from bfjax.report.standard import cases
from bfjax.report.standard.loading import load
from bfjax.report.standard.page import render
from bfjax.report.standard.proven import load_proven
from bfjax.report.standard.ranking import rank

_REST = 10**6  # generously what the page has beside its cases


def make_page(
    folder: Path, out: Path, *, max_cases: int | None, where: str | None, limit: int
) -> int:
    """Makes one web page of the audits and certificates of a folder.

    Args:
      folder: in which they lie.
      out: the page.
      max_cases: at most so many cases; `None` for as many as there is room for.
      where: the images; `None` for where they lay when they were audited.
      limit: the page is not larger than this many bytes.

    Returns:
      How many cases it shows.

    Raises:
      FileNotFoundError: neither audit nor certificates are there, or the images are not.
      ValueError: a file, or the images, are not what they should be.
    """
    proven = load_proven(folder)
    audits, unfinished = load(folder, required=not proven)
    groups, differ = rank(audits)
    ordered = [one for group in groups for one in group.audits]
    wanted = cases.order(ordered, max_cases)
    with progress.bar() as bar:
        task = bar.add_task("drawing", total=len(wanted))
        shown = cases.gather(
            ordered, wanted, where=where, limit=limit - _REST, on_case=lambda: bar.advance(task)
        )
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = render(groups, differ, shown, proven=proven, unfinished=unfinished, date=date)
    with storage.replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return len(shown.facts)


def of_page(
    folder: Path, out: Path, *, max_cases: int | None, where: str | None, limit: int
) -> Estimate:
    """What the page would take, reckoned from two of its cases.

    Args:
      folder: as of `make_page`.
      out: as of `make_page`.
      max_cases: as of `make_page`.
      where: as of `make_page`.
      limit: as of `make_page`.

    Returns:
      The estimate.

    Raises:
      FileNotFoundError, ValueError: as `make_page`.
    """
    audits, _ = load(folder, required=not load_proven(folder))
    wanted = cases.order(audits, max_cases)
    times: list[float] = []
    shown = cases.gather(audits, wanted[:2], where=where, limit=limit,
                         on_case=lambda: times.append(time.perf_counter()))  # fmt: skip
    each = max(map(len, shown.images), default=0)
    room = (limit - _REST) // max(each, 1)
    count = min(len(wanted), room)
    seconds = count * (times[-1] - times[0]) if times else 0.0  # the first one compiled
    return Estimate(str(out), f"{count} cases", seconds, count * each + _REST // 10)
