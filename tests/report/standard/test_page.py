import html
import json
import re

import pytest

from bfjax import cli, report
from bfjax.report import markup
from bfjax.report.standard import load, rank
from bfjax.report.standard.cases import Shown
from bfjax.report.standard.page import render, share
from tests.report.conftest import BREAK, EVIL
from tests.report.standard.conftest import edit, make_up
from tests.report.test_page import Parsed


def words(text):
    """What the page says, without its markup."""
    body = re.sub("<(style|script)[^>]*>.*?</\\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", body)).split())


@pytest.fixture(scope="module")
def page(audited, tmp_path_factory):
    made = report.make_report(audited, out=tmp_path_factory.mktemp("page") / "report.html")
    assert made.cases == 9
    return made.path.read_text(encoding="utf-8")


def test_the_table_ranks_and_gives_what_was_measured(page, audited):
    rows = re.findall("<tr><td>(\\d)</td>(.*?)</tr>", page, flags=re.DOTALL)
    assert [number for number, _ in rows] == ["1", "2", "3"]
    for (_, row), name, takes in zip(rows, ("strong", "middling", "weak"),
                                     ("> 0.4", "0.05", "0.02"), strict=True):  # fmt: skip
        (path,) = audited.rglob(f"{name}/audit.json")
        audit = json.loads(path.read_text())
        told = words(row)
        assert told.startswith(f"{name} of:{name} {takes} ")
        tiers = audit["rows"]["fixed"]["tiers"]
        for found in (audit["clean"], *tiers, audit["machine"]):
            cell = share(found["accuracy"], found["intervals"]["accuracy"])
            assert " ".join(f"{cell.percent} {cell.interval}".split()) in told
        assert " 6 70 at most 70 " in told
    assert words(rows[0][1]).endswith("none")
    assert words(rows[2][1]).endswith("gradient free")


def test_it_says_what_was_tested_and_what_that_means(page):
    told = words(page)
    assert "This is no clinical tool: nothing here is a finding about a patient" in told
    assert "strong takes most. Without light strong is right about" in told
    assert "6 of phantom, test split, 32 \u00d7 32 pixels." in told
    assert "0.1 is no more than a calibrated machine leaves; 0.2 is no more than a misused" in told
    assert "linear: a grey value is proportional to the exposure" in told
    assert "weak, worst uneven light found, 6 images: These images were turned by light" in told
    assert "weak gets 5 images right without light. Uneven light of at most 0.4 turned 5" in told
    assert "of at most 0.4 turned 0 of them; for 5 none was found." in told
    assert "under universal light accuracy" in told
    assert "PNEUMONIA found" in told


def test_groups_are_told_apart_with_the_reason(tmp_path):
    make_up(tmp_path, "a")
    make_up(tmp_path, "b", encoding="log", threshold=0.3)
    (tmp_path / "begun/shards/fixed").mkdir(parents=True)
    (tmp_path / "begun/shards/fixed/0000000.parquet").write_bytes(b"")
    text = report.make_report(tmp_path).path.read_text(encoding="utf-8")
    told = words(text)
    assert "These audits differ in their encoding. They cannot be ranked against each other" in told
    assert text.count('<table class="plain ranking">') == 2
    assert "0.29 times the log field is subtracted from it" in told
    assert "answers from a probability of 0.3" in told
    assert "Not finished, and left out: begun." in told


def test_one_answer_for_all_and_corrections_are_told_where_they_were_tested(tmp_path):
    made = make_up(tmp_path, universal=0.5)
    one = {"answer": "NORMAL", "share": 1.0, "clean": 0.5, "means": "It always says that."}
    other = {"answer": "NORMAL", "share": 0.7, "clean": 0.5}
    tiers = [{"log_range": rho, "one_answer": o} for rho, o in ((0.1, other), (0.4, one))]
    rates = dict.fromkeys(("uncorrected", "oblivious", "adaptive", "worst"), 0.25)
    rates |= {"straight_through": 0.125, "gradient_free": 0.375, "log_range": 0.2}
    gain = {"gain": {"mean": 0.1, "low": -0.05, "high": 0.25}}
    corrected = {"clean": {"accuracy": 0.75}, "tiers": [rates | gain]}
    edit(made.folder, universal={"tiers": tiers}, corrections={"polynomial": corrected})
    told = words(report.make_report(tmp_path, max_cases=0).path.read_text(encoding="utf-8"))
    assert told.count("It always says that.") == 1
    assert "one, universal light within 0.4, 6 images: It always says that." in told
    row = "polynomial 75.0 % 0.2 25.0 % 25.0 % 25.0 % 12.5 % 37.5 % 25.0 % +10.0 (-5.0 to +25.0)"
    assert row in told


def test_without_uneven_light_alone_there_are_numbers_and_no_cases(tmp_path):
    make_up(tmp_path, rows=("free", "alone"))
    made = report.make_report(tmp_path)
    assert made.cases == 0
    told = words(made.path.read_text(encoding="utf-8"))
    assert "uneven light alone was not tested, so there is none to show" in told


def test_strings_of_others_make_no_element_and_no_attribute(tmp_path):
    make_up(tmp_path)
    plain = Parsed(report.make_report(tmp_path).path.read_text(encoding="utf-8"))
    audits, _ = load(tmp_path)
    evil = f"{EVIL}{BREAK}"
    audit = json.loads(json.dumps(audits[0].audit).replace("phantom", json.dumps(evil)[1:-1]))
    audit["model"] = {"name": evil, "architecture": evil, "sha256": evil}
    audit["run"] = {evil: evil, "versions": {evil: evil}}
    audit["settings"] |= {evil: evil, "class_names": [evil, evil], "split": evil}
    audit["rows"]["fixed"]["flags"] = {evil: {"images": 1, "means": evil}}
    one = audits[0]._replace(name=evil, audit=audit)
    fact = {"audit": 0, "image": 0, "file": evil, "label": evil, "words": evil}
    groups, _ = rank([one])
    shown = Shown(["data:image/png;base64,"], [fact])
    parsed = Parsed(render(groups, [evil], shown, unfinished=[evil], date="2020"))
    assert {tag for tag, _ in parsed.tags} <= {tag for tag, _ in plain.tags} | {"br", "strong"}
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2
    for tag, attributes in parsed.tags:
        assert "src" not in attributes, tag
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], attributes
    assert EVIL in parsed.text
    found = json.loads(next(t for t in parsed.texts["script"] if t.startswith("{")))
    assert found["cases"] == [fact]
    assert found["audits"][0]["name"] == evil


def test_nothing_is_loaded_from_elsewhere(page):
    parsed = Parsed(page)
    (policy,) = [a["content"] for _, a in parsed.tags if "http-equiv" in a]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'{markup.digest(parsed.texts['style'][0])}'"
    assert rules["script-src"] == f"'{markup.digest(parsed.texts['script'][-1])}'"
    for tag, attributes in parsed.tags:
        for name in ("src", "srcset", "action", "data", "xlink:href"):
            assert name not in attributes, (tag, attributes)
        if "href" in attributes:
            assert attributes["href"].startswith("#")
    style, script = markup.read("standard/page.css"), markup.read("standard/page.js")
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"fetch|XMLHttpRequest|innerHTML|eval|https?:", script)
    identities = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(identities) == len(set(identities))


def test_the_chest_x_rays_are_cited(tmp_path):
    made = make_up(tmp_path)
    settings = json.loads((made.folder / "settings.json").read_text())
    edit(made.folder, settings=settings | {"data": "/somewhere/chest_xray"})
    text = report.make_report(tmp_path, max_cases=0).path.read_text(encoding="utf-8")
    assert "https://doi.org/10.17632/rscbjbr9sj.2" in text
    assert "light was laid over them" in text


def test_the_command_makes_it_and_estimates(audited, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert cli.main(["report", str(audited), "--out", str(out), "--dry-run"]) == 0
    assert "9 cases" in capsys.readouterr().out
    assert not out.exists()
    assert cli.main(["report", str(audited), "--out", str(out), "--max-cases", "4"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 4 cases, 0.")
    assert "4 of 9 cases are shown" in words(out.read_text(encoding="utf-8"))
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_an_audit_json_alone_is_ranked(audited, tmp_path):
    (source,) = audited.rglob("weak/audit.json")
    (tmp_path / "audit.json").write_bytes(source.read_bytes())
    made = report.make_report(tmp_path, where="nowhere")
    assert made.cases == 0
    told = words(made.path.read_text(encoding="utf-8"))
    assert "Its shards are not there, which hold that light." in told
    (tmp_path / "shards").mkdir()
    with pytest.raises(ValueError, match=r"shards/fixed holds no shards"):
        report.make_report(tmp_path)
    assert report.make_report(tmp_path, max_cases=0).cases == 0
