"""Cells of the tables of a page: shares with their intervals, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bfjax.report.page import Cell

SPACE, DASH = "\u00a0", "\u2013"


def share(value: float | None, interval: Sequence[float] | None = None) -> Cell:
    r"""A share of images and its 95 % interval as text.

    Args:
      value: `None` where it has no meaning.
      interval: its ends; `None` where there is none.

    Returns:
      The texts.

    Example:
      >>> found = share(0.25, [0.1, 0.5])
      >>> found.percent.replace("\xa0", " "), found.interval.replace("\xa0", " ")
      ('25.0 %', '10.0–50.0 %')
    """
    if value is None:
        return Cell(DASH, "", "")
    if interval is None:
        return Cell(f"{100 * value:.1f}{SPACE}%", "", "", value=value)
    low, high = interval
    text = f"{100 * low:.1f}{DASH}{100 * high:.1f}{SPACE}%"
    return Cell(f"{100 * value:.1f}{SPACE}%", "", text, low, high, value)


def _area(value: float | None, interval: Sequence[float | None] | None) -> Cell:
    """An area under a curve is no share of images."""
    if value is None:
        return Cell(DASH, "", "")
    known = interval is not None and None not in interval
    text = f"{interval[0]:.3f}{DASH}{interval[1]:.3f}" if known else ""
    return Cell(f"{value:.3f}", "", text)


def cell(found: dict[str, Any], metric: str) -> Cell:
    """One of the metrics that results hold, as text.

    Args:
      found: metrics with their intervals.
      metric: which.

    Returns:
      The texts.
    """
    write = _area if metric == "auc" else share
    return write(found[metric], found["intervals"].get(metric))


def architecture(name: str, found: dict[str, Any]) -> str:
    """The architecture of a model, where its name does not say it.

    Args:
      name: of the model.
      found: what its results hold.

    Returns:
      The architecture, or nothing.
    """
    known = found["model"].get("architecture", "")
    return "" if known == name else known
