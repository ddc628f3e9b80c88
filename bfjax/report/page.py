"""The page: what its template shows, computed; no numbers are made up in the template."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

from bfjax.evaluation import flags_in_words
from bfjax.metrics import SuccessRate
from bfjax.report import curves, markup, pictures, repeat
from bfjax.report.loading import Matrix, Results, Run
from bfjax.report.sweeps import sweeps

_SHADES = 21  # of the heat map: one for every five percent
_SPACE, _DASH = "\u00a0", "\u2013"

_MEANINGS = {
    "PNEUMONIA→NORMAL": "missed pneumonia",
    "NORMAL→PNEUMONIA": "false alarm",
}


class Cell(NamedTuple):
    """A rate as the page writes it.

    Attributes:
      percent: such as "34.8 %"; a dash where there is none.
      counts: such as "203/584".
      interval: such as "31.0–38.7 %", at 95 %.
      low: its lower end, in [0, 1].
      high: its upper end.
      value: the rate.
      shade: which colour of the heat map it has.
    """

    percent: str
    counts: str
    interval: str
    low: float = 0.0
    high: float = 1.0
    value: float | None = None
    shade: str = "none"


def cell(rate: SuccessRate | None) -> Cell:
    r"""A rate, its counts and its 95 % Wilson interval as text.

    Args:
      rate: `None` where nothing was measured.

    Returns:
      The texts.

    Example:
      >>> found = cell(SuccessRate(correct=584, fooled=203, rate=203 / 584))
      >>> found.counts, found.interval.replace("\xa0", " ")
      ('203/584', '31.0–38.7 %')
    """
    if rate is None:
        return Cell(_DASH, "", "")
    counts = f"{rate.fooled}/{rate.correct}"
    if math.isnan(rate.rate):
        return Cell(_DASH, counts, "")
    low, high = rate.interval
    return Cell(
        percent=f"{100 * rate.rate:.1f}{_SPACE}%",
        counts=counts,
        interval=f"{100 * low:.1f}{_DASH}{100 * high:.1f}{_SPACE}%",
        low=float(low),
        high=float(high),
        value=float(rate.rate),
        shade=str(round(float(rate.rate) * (_SHADES - 1))),
    )


def render(
    results: Results,
    cases: list[dict[str, Any]],
    links: list[str],
    *,
    total: int,
    sampled: bool,
    date: str,
) -> str:
    """The whole page.

    Args:
      results: what is shown.
      cases: the facts of each case.
      links: where its picture is.
      total: how many images were attacked in all runs.
      sampled: whether the cases were chosen from those that could be shown.
      date: when the page is made.

    Returns:
      HTML that loads nothing but those pictures.
    """
    settings = results.runs[0].settings
    judges = {target for run in results.runs for target in run.targets}
    template = markup.templates().get_template("page.html")
    return template.render(
        results=results,
        settings=settings,
        data_name=Path(settings["data"]).name or settings["data"],
        chest_xray=Path(settings["data"]).name == "chest_xray",
        headlines=[_headline(run) for run in results.runs],
        matrices=[_tables(matrix) for matrix in results.matrices],
        judges=len(judges),
        curves=[_curve(k, curve) for k, curve in enumerate(sweeps(results.runs).values())],
        legend=[str(k) for k in range(_SHADES)],
        commands=repeat.command_lines(results.runs),
        runs=[_settings(run) for run in results.runs],
        total=total,
        sampled=sampled,
        date=date,
        shown=len(cases),
        data=_island(results, cases, links),
        style=markup.read("page.css") + _shades() + markup.bars(),
        script=markup.read("page.js"),
    )


def _headline(run: Run) -> dict[str, Any]:
    return {
        "run": run,
        "success": cell(run.rate(run.source)),
        "directions": [
            (_meaning(name), _spaced(name), cell(run.rate(run.source, name)))
            for name in _directions(run)
        ],
        "accuracy": cell(run.accuracy),
        "change": run.summary.get("mean_max_change"),
        "mean": run.summary.get("mean_change"),
        "saved": [(_FORMATS[kind], cell(rate)) for kind, rate in run.saved_as.items()],
        "quality": _quality(run.summary),
        "flags": flags_in_words(run.summary.get("flags")),
    }


_FORMATS = {"png": "8-bit PNG", "jpeg": "JPEG of quality 75"}


def _quality(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """BRISQUE and SSIM in words, where they were measured."""
    found = []
    if "mean_brisque" in summary:
        change = summary["brisque_change"]
        means = f"{summary['mean_brisque_clean']:.1f} → {summary['mean_brisque']:.1f}"
        text = f"{means}, {change['mean']:+.1f}"
        if change["low"] is not None:
            text += f" ({change['low']:+.1f} to {change['high']:+.1f})"
        found.append((f"BRISQUE ({summary['brisque_model']})", text))
    if "mean_ssim" in summary:
        found.append(("SSIM", f"{summary['mean_ssim']:.3f}"))
    return found


class _Table(NamedTuple):
    """A heat map: rows of (title, small print, one (own attack?, cell) a column)."""

    title: str
    detail: str
    rows: list[tuple[str, str, list[tuple[bool, Cell]]]]


def _tables(matrix: Matrix) -> dict[str, Any]:
    """All directions together, then each; a table of their own where there are several sources."""
    kinds: list[tuple[str, str | None]] = [("all images", None)]
    kinds += [(_meaning(name), name) for name in _directions(matrix.runs[0])]

    def cells(run: Run, kind: str | None) -> list[tuple[bool, Cell]]:
        return [(t == run.source, cell(run.rate(t, kind))) for t in matrix.targets]

    both = "both directions" if len(kinds) == 3 else "all directions"
    if len(matrix.runs) == 1:
        run = matrix.runs[0]
        rows = [(title, _spaced(kind or both), cells(run, kind)) for title, kind in kinds]
        tables = [_Table(f"made on {run.source}", "", rows)]
    else:
        tables = [
            _Table(
                title,
                _spaced(kind or both),
                [(run.source, "", cells(run, kind)) for run in matrix.runs],
            )
            for title, kind in kinds
        ]
    return {"attack": matrix.attack, "targets": matrix.targets, "tables": tables}


def _directions(run: Run) -> list[str]:
    """What matters most first: a missed pneumonia."""
    return sorted(run.directions, key=lambda name: name != next(iter(_MEANINGS)))


def _meaning(direction: str) -> str:
    true_class, _, other = direction.partition("→")
    return _MEANINGS.get(direction, f"{true_class} taken for {other}")


def _spaced(direction: str) -> str:
    """Narrow columns may break it."""
    return direction.replace("→", " → ")


def _curve(number: int, curve: dict[str, Any]) -> dict[str, Any]:
    rows = []
    for i, x in enumerate(curve["x"]):
        values = [[s[key][i] for key in ("rate", "low", "high")] for s in curve["series"].values()]
        rows.append((f"{x:g}", [_DASH if None in v else _with_interval(*v) for v in values]))
    return {
        "xlabel": curve["xlabel"],
        "svg": curves.plot(curve, identity=f"curve-{number}"),
        "keys": [(curves.key(k), name) for k, name in enumerate(curve["series"])],
        "rows": rows,
    }


def _with_interval(rate: float, low: float, high: float) -> str:
    return f"{100 * rate:.1f}{_SPACE}% ({100 * low:.1f}{_DASH}{100 * high:.1f})"


def _settings(run: Run) -> dict[str, Any]:
    settings = {k: v for k, v in run.settings.items() if k != "models"}
    return {
        "name": f"{run.attack} on {run.source}",
        "models": run.models,
        "settings": [(key, json.dumps(v, ensure_ascii=False)) for key, v in settings.items()],
    }


def _island(results: Results, cases: list[dict[str, Any]], links: list[str]) -> str:
    """The data of the script."""
    value = {
        "gutter": pictures.GUTTER,
        "runs": [
            {"attack": run.attack, "source": run.source, "targets": run.targets}
            for run in results.runs
        ],
        "cases": [facts | {"src": src} for facts, src in zip(cases, links, strict=True)],
    }
    return markup.island(value)


def _shades() -> str:
    """Rules for the cells of the heat map: the colour, and black or white, whichever is clearer."""
    rules = []
    for k, colour in enumerate(matplotlib.colormaps["Blues"](np.linspace(0.02, 1, _SHADES))):
        linear = np.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)
        luminance = float(linear[:3] @ [0.2126, 0.7152, 0.0722])
        text = "#000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fff"
        rules.append(f".h{k}{{background:{markup.hexadecimal(colour)};color:{text}}}\n")
    return "".join(rules)
