import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from bfjax import cli, report
from bfjax.report.standard.proven import differ, load_proven, plot, section
from tests.report.conftest import BREAK, EVIL
from tests.report.standard.conftest import make_proven, make_up
from tests.report.standard.test_page import words
from tests.report.test_page import Parsed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two certified models, of which one is audited too, and a third that is audited alone."""
    folder = tmp_path_factory.mktemp("proven")
    make_up(folder / "audits", "weak")
    make_up(folder / "audits", "other")
    make_proven(folder / "deeper" / "still", "weak", wrong=(0,))
    make_proven(folder, "strong", (0.12, 0.12, 0.06, 0.06))
    return folder


def test_certificates_are_found_at_any_depth_the_strongest_first(folder):
    assert [one.name for one in load_proven(folder)] == ["strong", "weak"]
    assert [one.name for one in load_proven(folder / "strong")] == ["strong"]
    assert load_proven(folder / "audits") == []


def test_the_page_shows_what_is_proven_beside_audits(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert cli.main(["report", str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    page = out.read_text(encoding="utf-8")
    told = words(page)
    assert "2 audits and the certificates of 2 models, tested on phantom" in told
    assert "strong of:strong 4 images, random light of 0.05 100.0 % " in told
    assert "These certificates differ" not in told
    assert "weak: Each certificate may be wrong with a probability of at most 0.001" in told
    assert "Not covered are the bare model, whose single answers may change" in told
    identities = [a["id"] for _, a in Parsed(page).tags if "id" in a]
    assert len(identities) == len(set(identities))


def test_rates_are_those_of_the_certificates(folder):
    told = section(load_proven(folder))
    (table,) = told["tables"]
    assert table["rms"] == ["0.02", "0.05", "0.1"]
    assert table["log_ranges"] == ["0.1", "0.2"]
    percents = {
        row["name"]: [
            [cell.percent.split("\u00a0")[0] for cell in rates] for _, rates, _ in row["lights"]
        ]
        for row in table["rows"]
    }
    # weak: radii of 0.12 (wrong), 0.06, none and 0.12; half of each where light is clipped too
    assert percents["weak"] == [
        ["50.0", "50.0", "25.0", "50.0", "25.0"],
        ["50.0", "25.0", "0.0", "25.0", "0.0"],
    ]
    assert percents["strong"][0] == ["100.0", "100.0", "50.0", "100.0", "50.0"]
    assert [mean for _, _, mean in table["rows"][0]["lights"]] == ["0.090", "0.045"]


def test_the_curve_falls_at_each_radius(folder):
    (strong, _) = load_proven(folder)
    svg = ElementTree.fromstring(plot(strong, identity="x")[0])
    labels = {t.text: (float(t.get("x")), float(t.get("y")) - 4) for t in svg.iter("text")}
    line = svg.find(".//g[@class='series s0']/path[@class='line']").get("d")
    corners = np.array([part.split() for part in line[1:].split(" L")], float)
    sizes = (corners[:, 0] - labels["0"][0]) / (labels["0.1"][0] - labels["0"][0]) * 0.1
    zero, full = labels["0 %"][1], labels["100 %"][1]
    np.testing.assert_allclose(sizes[:-1], [0, 0.06, 0.06, 0.12, 0.12], atol=2e-3)
    rates = (corners[:, 1] - zero) / (full - zero)
    np.testing.assert_allclose(rates, [1, 1, 0.5, 0.5, 0, 0], atol=1e-3)
    assert "Certified, light not clipped: 100 % at 0.02" in svg.find("desc").text


def test_certificates_alone_make_a_page(tmp_path):
    make_proven(tmp_path)
    made = report.make_report(tmp_path)
    told = words(made.path.read_text(encoding="utf-8"))
    assert made.cases == 0
    assert "The certificates of 1 model, tested on phantom" in told
    assert "Ranking" not in told
    assert report.making.of_report(tmp_path).size > 0


def test_what_differs_is_said_and_other_columns_get_a_table_of_their_own(tmp_path):
    make_proven(tmp_path, "a")
    path = make_proven(tmp_path, "b", sigma=0.1) / "certificates.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"rms": found["rms"][:2]}))
    proven = load_proven(tmp_path)
    assert differ(proven) == ["random light"]
    assert [len(table["rms"]) for table in section(proven)["tables"]] == [3, 2]
    told = words(report.make_report(tmp_path).path.read_text(encoding="utf-8"))
    assert "These certificates differ in their random light, and cannot be compared" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"certificates\.json is not valid JSON: run bfjax certify again"),
        ('{"schema": 9}', r"certificates\.json is of schema 9, this bfjax reads schema 1"),
        ('{"schema": 1}', r"certificates\.json, schema 1, has no model: it is not of `bfjax cert"),
    ],
)
def test_broken_or_newer_certificates_are_named(tmp_path, text, message):
    (make_proven(tmp_path) / "certificates.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        report.make_report(tmp_path)


def test_strings_of_others_make_no_element(tmp_path):
    path = make_proven(tmp_path) / "certificates.json"
    plain = Parsed(report.make_report(tmp_path).path.read_text(encoding="utf-8"))
    evil = f"{EVIL}{BREAK}"
    found = json.loads(path.read_text())
    found["model"] = {"name": evil, "architecture": evil, "sha256": evil}
    found |= {"chance": evil, "not_covered": evil, "means": evil, "run": {evil: evil}}
    path.write_text(json.dumps(found))
    parsed = Parsed(report.make_report(tmp_path).path.read_text(encoding="utf-8"))
    assert {tag for tag, _ in parsed.tags} <= {tag for tag, _ in plain.tags} | {"br", "strong"}
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if re.match("on|src|style", name)], tag
    assert EVIL in parsed.text
