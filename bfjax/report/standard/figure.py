"""Accuracy against the log-range as SVG: the worst light, one light for all, random light."""

from __future__ import annotations

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
    curves.axes(svg, _ticks(audit["settings"]["ranges"], end), "log-range of the light")
    drawn: list[tuple[int, str]] = []
    for name, found in audit["rows"].items():
        number = _NUMBERS.get(name, 3)
        group = _group(svg, number)
        _line(group, _steps(found["curve"], end), end)
        for tier in found["tiers"]:
            x, y = _x(tier["log_range"], end), curves.height(tier["accuracy"])
            curves.marker(group, number, x, y)
        drawn.append((number, ROWS.get(name, name)))
    _intervals(_group(svg, _NUMBERS.get(row, 3)), tiers, end)
    clean = (0.0, audit["clean"]["accuracy"])
    for number, key, text in (
        (_UNIVERSAL, "universal_accuracy", "one light for all images"),
        (_RANDOM, "random_accuracy", "random light, mean"),
    ):
        known = [(t["log_range"], t[key]) for t in tiers if t.get(key) is not None]
        if known:
            group = _group(svg, number)
            _line(group, [clean, *known], end)
            for rho, rate in known:
                curves.marker(group, number, _x(rho, end), curves.height(rate))
            drawn.append((number, text))
    machine = audit["machine"]["accuracy"]
    _line(_group(svg, _MACHINE), [(0.0, machine), (end, machine)], end)
    drawn.append((_MACHINE, "worst set-up of a machine"))
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


def _x(log_range: float, end: float) -> float:
    return curves.SPAN[0] + log_range / end * (curves.SPAN[1] - curves.SPAN[0])


def _ticks(ranges: list[float], end: float) -> list[tuple[float, float]]:
    """The ranges tested, from the largest on those that leave room for their numbers."""
    ticks = [(_x(end, end), end)]
    for value in sorted({0.0, *ranges}, reverse=True):
        if ticks[-1][0] - _x(value, end) >= _APART:
            ticks.append((_x(value, end), value))
    return ticks[::-1]


def _steps(curve: dict[str, list[float]], end: float) -> list[tuple[float, float]]:
    """The corners of a curve that falls at each image's own range."""
    points = [(0.0, curve["accuracy"][0])]
    for place, rate in zip(curve["log_range"][1:], curve["accuracy"][1:], strict=True):
        if place <= end * (1 + 1e-5):
            points += [(place, points[-1][1]), (place, rate)]
    return [*points, (end, points[-1][1])]


def _group(svg: ElementTree.Element, number: int) -> ElementTree.Element:
    return ElementTree.SubElement(svg, "g", {"class": f"series s{number}"})


def _line(group: ElementTree.Element, points: list[tuple[float, float]], end: float) -> None:
    line = ElementTree.SubElement(group, "path", {"class": "line"})
    placed = [f"{_x(place, end):.1f} {curves.height(rate):.1f}" for place, rate in points]
    line.set("d", f"M{' L'.join(placed)}")


def _intervals(group: ElementTree.Element, tiers: list[dict[str, Any]], end: float) -> None:
    for tier in tiers:
        low, high = map(curves.height, tier["intervals"]["accuracy"])
        bar = ElementTree.SubElement(group, "path", {"class": "interval"})
        bar.set("d", f"M{_x(tier['log_range'], end):.1f} {low:.1f} V{high:.1f}")
