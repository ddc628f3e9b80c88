"""Accuracy against the log-range as SVG: the worst light, one light for all, random light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from bfjax.report import curves

ROWS = {
    "fixed": "worst uneven light found",
    "alone": "worst exposure alone",
    "free": "worst of both at once",
}
"""The kinds of exposure, and what is drawn of them."""
# colours, dashes and markers of page.css
_NUMBERS = {"fixed": 0, "alone": 3, "free": 5}
_UNIVERSAL, _RANDOM, _MACHINE = 1, 2, 4
_APART = 24  # numbers closer than that would run into each other


def plot(audit: dict[str, Any], row: str, *, identity: str) -> tuple[str, list[tuple[str, str]]]:
    """Draws what an audit found.

    Args:
      audit: its entries.
      row: the kind of exposure whose random light and intervals are drawn.
      identity: begins the `id`s within.

    Returns:
      An SVG element, and for the legend a stroke and a name of each curve, from below: the worst
      light, one light for all images where it was tested, random light.
    """
    end, tiers = max(audit["settings"]["ranges"]), audit["rows"][row]["tiers"]
    model = audit["model"].get("name", "the model")
    svg = curves.drawing(f"Accuracy of {model} against the log-range", describe(audit, row),
                         identity=identity)  # fmt: skip
    curves.axes(svg, numbers(audit["settings"]["ranges"], end), "log-range of the light")
    drawn: list[tuple[int, str]] = []
    for name, found in audit["rows"].items():
        number = _NUMBERS.get(name, 3)
        part, curve = group(svg, number), found["curve"]
        line(part, steps(curve["log_range"], curve["accuracy"], end), end)
        for tier in found["tiers"]:
            x, y = place(tier["log_range"], end), curves.height(tier["accuracy"])
            curves.marker(part, number, x, y)
        drawn.append((number, ROWS.get(name, name)))
    _intervals(group(svg, _NUMBERS.get(row, 3)), tiers, end)
    clean = (0.0, audit["clean"]["accuracy"])
    for number, key, text in (
        (_UNIVERSAL, "universal_accuracy", "universal light, one for all"),
        (_RANDOM, "random_accuracy", "random light, mean"),
    ):
        known = [(t["log_range"], t[key]) for t in tiers if t.get(key) is not None]
        if known:
            part = group(svg, number)
            line(part, [clean, *known], end)
            for rho, rate in known:
                curves.marker(part, number, place(rho, end), curves.height(rate))
            drawn.append((number, text))
    machine = audit["machine"]["accuracy"]
    line(group(svg, _MACHINE), [(0.0, machine), (end, machine)], end)
    drawn.append((_MACHINE, "worst set-up of a machine, of any log-range"))
    return ElementTree.tostring(svg, encoding="unicode"), [
        (curves.key(number), text) for number, text in drawn
    ]


def describe(audit: dict[str, Any], row: str) -> str:
    """What the figure shows, in words.

    Args:
      audit: its entries.
      row: the kind of exposure whose random light is drawn.

    Returns:
      Accuracy without light, and at each log-range.
    """
    sentences = [f"Without light: {_percent(audit['clean']['accuracy'])}."]
    for name, found in audit["rows"].items():
        rates = [f"{_percent(t['accuracy'])} at {t['log_range']:g}" for t in found["tiers"]]
        sentences.append(f"{ROWS.get(name, name)}: {', '.join(rates)}.")
    tiers = audit["rows"][row]["tiers"]
    rates = [f"{_percent(t['random_accuracy'])} at {t['log_range']:g}" for t in tiers]
    sentences.append(f"random light: {', '.join(rates)}.")
    return " ".join(sentences)


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


def place(value: float, end: float) -> float:
    """Where a size of the light is drawn.

    Args:
      value: the size.
      end: the largest one drawn.

    Returns:
      x, in units of the drawing.
    """
    return curves.SPAN[0] + value / end * (curves.SPAN[1] - curves.SPAN[0])


def numbers(sizes: Sequence[float], end: float) -> list[tuple[float, float]]:
    """The numbers below: from the largest on those that leave room for theirs, and 0.

    Args:
      sizes: of the light.
      end: the largest one drawn.

    Returns:
      (x, size) of each.
    """
    largest, *others = sorted({0.0, *sizes}, reverse=True)
    ticks = [(place(largest, end), largest)]
    for value in others:
        if ticks[-1][0] - place(value, end) >= _APART:
            ticks.append((place(value, end), value))
    return ticks[::-1]


def steps(sizes: Sequence[float], rates: Sequence[float], end: float) -> list[tuple[float, float]]:
    """The corners of a curve that falls at each image's own size of the light.

    Args:
      sizes: where it falls, from 0 on.
      rates: from there on.
      end: the largest size drawn.

    Returns:
      (size, rate) of each.
    """
    points = [(0.0, rates[0])]
    for size, rate in zip(sizes[1:], rates[1:], strict=True):
        if size <= end * (1 + 1e-5):
            points += [(size, points[-1][1]), (size, rate)]
    return [*points, (end, points[-1][1])]


def group(svg: ElementTree.Element, number: int) -> ElementTree.Element:
    """A curve's own part of the drawing, which has its colour and dash.

    Args:
      svg: the drawing.
      number: of the curve.

    Returns:
      The part.
    """
    return ElementTree.SubElement(svg, "g", {"class": f"series s{number}"})


def line(part: ElementTree.Element, points: list[tuple[float, float]], end: float) -> None:
    """Draws a curve.

    Args:
      part: of `group`.
      points: (size, rate) of its corners.
      end: the largest size drawn.
    """
    drawn = ElementTree.SubElement(part, "path", {"class": "line"})
    placed = [f"{place(size, end):.1f} {curves.height(rate):.1f}" for size, rate in points]
    drawn.set("d", f"M{' L'.join(placed)}")


def _intervals(part: ElementTree.Element, tiers: list[dict[str, Any]], end: float) -> None:
    for tier in tiers:
        low, high = map(curves.height, tier["intervals"]["accuracy"])
        bar = ElementTree.SubElement(part, "path", {"class": "interval"})
        bar.set("d", f"M{place(tier['log_range'], end):.1f} {low:.1f} V{high:.1f}")
