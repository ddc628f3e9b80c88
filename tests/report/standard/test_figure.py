import json
import re
from xml.etree import ElementTree

import numpy as np

from bfjax.report.standard import figure


def audit(audited, name):
    (path,) = audited.rglob(f"{name}/audit.json")
    return json.loads(path.read_text())


def drawn(audited, name):
    svg, legend = figure.plot(audit(audited, name), "fixed", identity="x")
    return ElementTree.fromstring(svg), [text for _, text in legend]


def numbers(element):
    return np.array(re.findall(r"-?\d+\.?\d*", element.get("d")), float)


def test_the_curve_falls_where_images_are_turned(audited):
    svg, _ = drawn(audited, "middling")
    labels = {t.text: (float(t.get("x")), float(t.get("y")) - 4) for t in svg.iter("text")}
    xs, ys = (labels["0"][0], labels["0.4"][0]), (labels["0 %"][1], labels["100 %"][1])
    line = svg.find(".//g[@class='series s0']/path[@class='line']").get("d")
    corners = np.array([part.split() for part in line[1:].split(" L")], float)
    ranges = (corners[:, 0] - xs[0]) / (xs[1] - xs[0]) * 0.4
    rates = (corners[:, 1] - ys[0]) / (ys[1] - ys[0])
    wanted = [(0, 5), (0.05, 5), (0.05, 4), (0.15, 4), (0.15, 3), (0.3, 3), (0.3, 2), (0.4, 2),
              (0.4, 1), (0.4, 1)]  # fmt: skip
    np.testing.assert_allclose(ranges, [x for x, _ in wanted], atol=2e-4)
    np.testing.assert_allclose(rates, [n / 6 for _, n in wanted], atol=1e-3)


def test_intervals_are_those_of_the_tiers(audited):
    svg, _ = drawn(audited, "middling")
    bars = svg.findall(".//path[@class='interval']")
    tiers = audit(audited, "middling")["rows"]["fixed"]["tiers"]
    labels = {t.text: float(t.get("y")) - 4 for t in svg.iter("text") if t.get("y")}
    zero, full = labels["0 %"], labels["100 %"]
    for bar, tier in zip(bars, tiers, strict=True):
        _, low, high = numbers(bar)
        found = [(y - zero) / (full - zero) for y in (low, high)]
        np.testing.assert_allclose(found, tier["intervals"]["accuracy"], atol=1e-3)


def test_one_light_for_all_is_drawn_where_it_was_tested(audited):
    _, legend = drawn(audited, "strong")
    worst, both = "worst uneven light found", "worst of both at once"
    assert legend == [worst, both, "universal light, one for all", "random light, mean",
                      "worst set-up of a machine, of any log-range"]  # fmt: skip
    assert "universal light, one for all" not in drawn(audited, "weak")[1]


def test_it_can_be_heard(audited):
    svg, _ = drawn(audited, "middling")
    assert svg.find("title").text == "Accuracy of middling against the log-range"
    told = svg.find("desc").text
    assert told.startswith("Without light: 83 %. worst uneven light found: 67 % at 0.1, 50 % at")
    assert told.endswith("random light: 75 % at 0.1, 75 % at 0.2, 75 % at 0.4.")


def test_numbers_that_would_run_into_each_other_are_left_out(audited):
    one = audit(audited, "weak")
    one["settings"]["ranges"] = [0.01, 0.02, 0.4]
    svg = ElementTree.fromstring(figure.plot(one, "fixed", identity="x")[0])
    texts = [t.text for t in svg.iter("text")]
    assert "0.4" in texts
    assert "0.01" not in texts
