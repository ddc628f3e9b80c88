import json
import shutil

import pytest

from bfjax.report import make_report
from bfjax.report.standard import load
from tests.report.standard.conftest import edit, make_up


def test_audits_are_found_at_any_depth(audited):
    found, unfinished = load(audited)
    assert [one.name for one in found] == ["middling", "strong", "weak"]
    assert unfinished == []
    assert [one.name for one in load(audited / "first")[0]] == ["strong", "weak"]
    assert [one.name for one in load(audited / "first" / "weak")[0]] == ["weak"]


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path):
    make_up(tmp_path / "x")
    make_up(tmp_path / "y")
    make_up(tmp_path / "y", "two")
    assert [one.name for one in load(tmp_path)[0]] == ["one (x/one)", "one (y/one)", "two"]


def test_an_unfinished_audit_is_named(tmp_path):
    make_up(tmp_path, "begun")
    (tmp_path / "begun" / "audit.json").unlink()
    for folder in (tmp_path, tmp_path / "begun"):
        with pytest.raises(FileNotFoundError, match=r"unfinished audit \(begun: shards and no"):
            load(folder)
    make_up(tmp_path, "whole")
    assert load(tmp_path)[1] == ["begun"]


def test_what_holds_neither_kind_of_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither the summary\.json .* nor an audit\.json"):
        make_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        make_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"one/audit\.json is not valid JSON"),
        ("[]", r"one/audit\.json names no schema"),
        ('{"schema": "x"}', r"one/audit\.json names no schema"),
        ('{"schema": 7}', r"one/audit\.json is of schema 7, this bfjax reads schema 1: use a"),
        ('{"schema": 1}', r"one/audit\.json, schema 1, has no model"),
    ],
)
def test_a_broken_or_newer_audit_is_named(tmp_path, text, message):
    make_up(tmp_path)
    make_up(tmp_path, "two")
    (tmp_path / "one" / "audit.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_row_that_lacks_something_is_named(tmp_path):
    made = make_up(tmp_path)
    rows = json.loads((made.folder / "audit.json").read_text())["rows"]
    del rows["fixed"]["takes"]
    edit(made.folder, rows=rows)
    with pytest.raises(ValueError, match=r"audit\.json, schema 1, has no rows\.fixed\.takes"):
        load(tmp_path)


def test_an_attack_among_audits_is_no_audit(tmp_path):
    make_up(tmp_path)
    (tmp_path / "attacked" / "shards").mkdir(parents=True)
    shutil.copy(tmp_path / "one/shards/fixed/0000000.parquet", tmp_path / "attacked/shards")
    found, unfinished = load(tmp_path)
    assert (len(found), unfinished) == (1, [])
