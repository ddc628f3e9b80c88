import json
import re

import pytest

from bfjax import report
from bfjax.report import ReportConfig, making


def test_the_page_lies_in_the_folder_and_holds_everything(single, capsys):
    before = set(single.rglob("*"))
    report.report(ReportConfig(dir=single))
    out = capsys.readouterr().out
    assert out.startswith(f"{single / 'report.html'}: 12 cases, 0.")
    assert set(single.rglob("*")) - before == {single / "report.html"}
    text = (single / "report.html").read_text(encoding="utf-8")
    assert len(re.findall("data:image/webp;base64,", text)) == 12
    assert not list(single.glob(".*"))


def test_pictures_that_would_make_it_too_large_lie_beside_it(several, tmp_path, monkeypatch):
    page = tmp_path / "new" / "of all.html"
    monkeypatch.setattr(making, "LIMIT", 10**6 + 4000)
    made = report.make_report(several, out=page, max_cases=5)
    assert made == (page, 5, page.parent / "of all-files")
    text = page.read_text(encoding="utf-8")
    names = re.findall(r'"src":"of%20all-files/([\w-]+\.webp)"', text)
    assert len(names) == 5
    assert sorted(names) == sorted(path.name for path in made.folder.iterdir())
    assert "data:image" not in text
    monkeypatch.undo()
    made = report.make_report(several, out=page, max_cases=5)
    assert made.folder is None
    assert [path.name for path in page.parent.iterdir()] == ["of all.html"]


def test_a_page_that_cannot_be_finished_leaves_the_old_one(single, tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    page.write_text("old")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "render", interrupt)
    with pytest.raises(KeyboardInterrupt):
        report.make_report(single, out=page, max_cases=1)
    assert page.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_without_cases_neither_shards_nor_data_are_needed(single, tmp_path):
    (tmp_path / "summary.json").write_bytes((single / "summary.json").read_bytes())
    made = report.make_report(tmp_path, max_cases=0, where="nowhere")
    assert made.cases == 0
    assert json.loads((tmp_path / "summary.json").read_text())["images"] == 12
    assert "Transfer" in made.path.read_text(encoding="utf-8")


def test_a_dry_run_says_how_many_cases_and_writes_nothing(single, tmp_path, capsys):
    page = tmp_path / "report.html"
    report.report(ReportConfig(dir=single, out=page, dry_run=True))
    assert "12 cases" in capsys.readouterr().out
    assert not page.exists()
