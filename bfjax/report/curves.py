"""Curves as SVG for a page: rates with their intervals over what was varied."""

from __future__ import annotations

import itertools
from typing import Any
from xml.etree import ElementTree

# In units of the drawing, which is 420 wide on a desktop and about 300 on a phone.
_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 12, 46
SPAN = (_LEFT + 8, _WIDTH - _RIGHT - 8)
"""From where to where the numbers below run."""
_TICKS = 7  # at most so many numbers along the x axis
_STYLES = 6  # colours, dashes and markers of page.css
_MARKERS = "osd^"


def plot(curve: dict[str, Any], *, identity: str) -> str:
    """Draws one set of curves; colours, dashes and fonts are the style sheet's.

    Args:
      curve: {"x", "xlabel", "series": {name: {"rate", "low", "high"}}}; rates in [0, 1], `None`
        where there is none.
      identity: begins the `id`s within; no other drawing of the page may have it.

    Returns:
      An SVG element with a title and a description for those who hear it.

    Example:
      >>> series = {"a<b": {"rate": [0.5], "low": [0.4], "high": [0.6]}}
      >>> drawn = plot({"x": [1], "xlabel": "degree", "series": series}, identity="one")
      >>> "a&lt;b: 50 % at 1" in drawn
      True
    """
    svg = drawing(f"Success rate over {curve['xlabel']}", describe(curve), identity=identity)
    xs = [_x(value, curve["x"]) for value in curve["x"]]
    ticks = sorted(zip(xs, curve["x"], strict=True))
    axes(svg, ticks[:: -(-len(ticks) // _TICKS)], curve["xlabel"])
    for number, values in enumerate(curve["series"].values()):
        _series(svg, number, xs, values)
    return ElementTree.tostring(svg, encoding="unicode")


def describe(curve: dict[str, Any]) -> str:
    """What the curves show, in words.

    Args:
      curve: as for `plot`.

    Returns:
      First and last rate of each series.
    """
    sentences = []
    for name, values in curve["series"].items():
        known = [(x, r) for x, r in zip(curve["x"], values["rate"], strict=True) if r is not None]
        ends = [f"{100 * rate:.0f} % at {x:g}" for x, rate in known[:1] + known[1:][-1:]]
        sentences.append(f"{name}: {', '.join(ends) or 'no rate'}.")
    return " ".join(sentences)


def drawing(title: str, text: str, *, identity: str) -> ElementTree.Element:
    """An empty drawing with a title and a description for those who hear it.

    Args:
      title: what it is.
      text: what it shows.
      identity: as of `plot`.

    Returns:
      An SVG element.
    """
    svg = ElementTree.Element(
        "svg",
        {"class": "curve", "viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img",
         "aria-labelledby": f"{identity}-title {identity}-text"},
    )  # fmt: skip
    _text(svg, "title", title, id=f"{identity}-title")
    _text(svg, "desc", text, id=f"{identity}-text")
    return svg


def key(number: int) -> str:
    """A stroke and a marker as the curve of that number has them, for the legend.

    Args:
      number: of the series.

    Returns:
      An SVG element, hidden from those who hear the legend.
    """
    svg = ElementTree.Element(
        "svg", {"class": "key", "viewBox": "0 0 34 12", "aria-hidden": "true"}
    )
    group = ElementTree.SubElement(svg, "g", {"class": f"series s{number % _STYLES}"})
    ElementTree.SubElement(group, "path", {"class": "line", "d": "M1 6 H33"})
    marker(group, number, 17, 6)
    return ElementTree.tostring(svg, encoding="unicode")


def _x(value: float, values: list[float]) -> float:
    low, high = min(values), max(values)
    share = (value - low) / (high - low) if high > low else 0.5
    return SPAN[0] + share * (SPAN[1] - SPAN[0])


def height(rate: float) -> float:
    """Where a rate is drawn.

    Args:
      rate: in [0, 1].

    Returns:
      y, in units of the drawing.
    """
    return _TOP + (1 - rate) * (_HEIGHT - _TOP - _BOTTOM)


def axes(svg: ElementTree.Element, ticks: list[tuple[float, float]], label: str) -> None:
    """Draws rates on the left and numbers below.

    Args:
      svg: the drawing.
      ticks: (x, number) of each.
      label: what the numbers are.
    """
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    grid = ElementTree.SubElement(svg, "g", {"class": "grid"})
    labels = ElementTree.SubElement(svg, "g", {"class": "labels"})
    for percent in (0, 25, 50, 75, 100):
        y = height(percent / 100)
        ElementTree.SubElement(grid, "path", {"d": f"M{_LEFT} {y:.1f} H{right}"})
        _text(labels, "text", f"{percent} %", x=f"{_LEFT - 6}", y=f"{y + 4:.1f}",
              **{"text-anchor": "end"})  # fmt: skip
    for x, value in ticks:
        ElementTree.SubElement(grid, "path", {"d": f"M{x:.1f} {bottom} v5"})
        _text(labels, "text", f"{value:g}", x=f"{x:.1f}", y=f"{bottom + 19}",
              **{"text-anchor": "middle"})  # fmt: skip
    _text(labels, "text", label, x=f"{(_LEFT + right) / 2:.1f}", y=f"{_HEIGHT - 6}",
          **{"text-anchor": "middle"})  # fmt: skip


def _series(
    svg: ElementTree.Element, number: int, xs: list[float], values: dict[str, list[Any]]
) -> None:
    group = ElementTree.SubElement(svg, "g", {"class": f"series s{number % _STYLES}"})
    points = list(zip(xs, values["rate"], values["low"], values["high"], strict=True))
    for there, run in itertools.groupby(points, lambda point: point[1] is not None):
        if there:  # a curve is broken where a rate is missing
            _stretch(group, [(x, *map(height, rates)) for x, *rates in run])
    for x, rate, _, _ in points:
        if rate is not None:
            marker(group, number, x, height(rate))


def _stretch(group: ElementTree.Element, points: list[tuple[float, ...]]) -> None:
    there = [f"{x:.1f} {low:.1f}" for x, _, low, _ in points]
    back = [f"{x:.1f} {high:.1f}" for x, _, _, high in reversed(points)]
    band = ElementTree.SubElement(group, "path", {"class": "band"})
    band.set("d", f"M{' L'.join(there + back)} Z")
    line = ElementTree.SubElement(group, "path", {"class": "line"})
    line.set("d", f"M{' L'.join(f'{x:.1f} {y:.1f}' for x, y, _, _ in points)}")


def marker(group: ElementTree.Element, number: int, x: float, y: float) -> None:
    """Marks a point.

    Args:
      group: of its series.
      number: of the series.
      x: in units of the drawing.
      y: likewise.
    """
    forms = {
        "o": "m-3.5 0 a3.5 3.5 0 1 0 7 0 a3.5 3.5 0 1 0 -7 0",
        "s": "m-3 -3 h6 v6 h-6 Z",
        "d": "m0 -4.5 l4.5 4.5 l-4.5 4.5 l-4.5 -4.5 Z",
        "^": "m0 -4 l4 7 h-8 Z",
    }
    form = forms[_MARKERS[number % len(_MARKERS)]]
    ElementTree.SubElement(group, "path", {"class": "marker", "d": f"M{x:.1f} {y:.1f} {form}"})


def _text(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, tag, attributes).text = text
