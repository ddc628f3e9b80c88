import re
from xml.etree import ElementTree

import numpy as np

from bfjax.report import curves

SERIES = {"rate": [0.0, 0.5, 1.0], "low": [0.0, 0.4, 0.9], "high": [0.1, 0.6, 1.0]}
CURVE = {"x": [0, 1, 4], "xlabel": "strength", "series": {"one": SERIES}}


def drawn(curve):
    return ElementTree.fromstring(curves.plot(curve, identity="curve-0"))


def numbers(element):
    return np.array(re.findall(r"-?\d+\.?\d*", element.get("d")), float)


def test_rates_and_intervals_are_where_the_axes_say():
    svg = drawn(CURVE)
    labels = {t.text: (float(t.get("x")), float(t.get("y"))) for t in svg.iter("text")}
    zero, full = labels["0 %"][1] - 4, labels["100 %"][1] - 4
    xs = [labels[x][0] for x in ("0", "1", "4")]
    assert (xs[2] - xs[0]) / (xs[1] - xs[0]) == 4
    line = numbers(svg.find(".//path[@class='line']")).reshape(-1, 2)
    np.testing.assert_allclose(line[:, 0], xs, atol=0.06)
    np.testing.assert_allclose((line[:, 1] - zero) / (full - zero), SERIES["rate"], atol=1e-3)
    band = numbers(svg.find(".//path[@class='band']")).reshape(-1, 2)
    shares = (band[:, 1] - zero) / (full - zero)
    np.testing.assert_allclose(shares[:3], SERIES["low"], atol=1e-3)
    np.testing.assert_allclose(shares[3:], SERIES["high"][::-1], atol=1e-3)


def test_it_can_be_heard():
    svg = drawn(CURVE)
    title, text = svg.find("title"), svg.find("desc")
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == f"{title.get('id')} {text.get('id')}"
    assert title.text == "Success rate over strength"
    assert text.text == "one: 0 % at 0, 100 % at 4."


def test_a_missing_rate_breaks_the_curve():
    values = {"rate": [0.1, 0.2, None, 0.4], "low": [0.1] * 4, "high": [0.5] * 4}
    svg = drawn({"x": [1, 2, 3, 4], "xlabel": "D", "series": {"one": values, "two": values}})
    assert len(svg.findall(".//path[@class='line']")) == 4
    assert len(svg.findall(".//path[@class='marker']")) == 6
    empty = {"rate": [None], "low": [None], "high": [None]}
    assert curves.describe({"x": [1], "series": {"one": empty}}) == "one: no rate."


def test_many_ticks_are_thinned_and_a_single_point_is_centred():
    xs = list(range(40))
    values = {key: [0.5] * 40 for key in ("rate", "low", "high")}
    svg = drawn({"x": xs, "xlabel": "D", "series": {"one": values}})
    labels = [t.text for t in svg.iter("text")]
    assert sum(text.isdigit() for text in labels) == 7
    one = {key: [0.5] for key in ("rate", "low", "high")}
    svg = drawn({"x": [3], "xlabel": "D", "series": {"one": one}})
    (tick,) = [t for t in svg.iter("text") if t.text == "3"]
    middle = next(t for t in svg.iter("text") if t.text == "D")
    assert tick.get("x") == middle.get("x")
