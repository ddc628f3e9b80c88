import json
import shutil

import pytest

from bfjax.report import loading
from tests.report.conftest import COUNT, FIELD, outcome, rows_of


def counted(rows, prefix="", label=None):
    found = [outcome(row, prefix) for row in rows if label in (None, row["label"])]
    return found.count("fooled"), len(found) - found.count("wrong")


def test_a_folder_of_one_attack_is_one_run(single):
    results = loading.load(single)
    (matrix,) = results.matrices
    (run,) = matrix.runs
    assert (run.attack, run.source, matrix.targets) == ("bias_field", "one", ["one", "two"])
    rows = rows_of(single)
    for target, prefix in (("one", ""), ("two", "two:")):
        rate = run.rate(target)
        assert (rate.fooled, rate.correct) == counted(rows, prefix)
        for direction in run.directions:
            rate = run.rate(target, direction)
            assert (rate.fooled, rate.correct) == counted(rows, prefix, direction.split("→")[0])
    assert (run.accuracy.fooled, run.accuracy.correct) == (counted(rows)[1], COUNT)
    assert run.rate("nobody") is None
    assert "jax" in results.environment["versions"]


def test_a_folder_of_several_has_a_row_for_each_source(several):
    results = loading.load(several)
    assert [(m.attack, [r.source for r in m.runs]) for m in results.matrices] == [
        ("ours", ["one", "two"]),
        ("weak", ["one", "two"]),
        ("weaker", ["one", "two"]),
    ]
    second = results.runs[1]
    assert second.targets == ["two", "one"]
    rows = rows_of(several / "ours" / "two")
    rate = second.rate("one")
    assert (rate.fooled, rate.correct) == counted(rows, "one:")
    listed = json.loads((several / "summary.json").read_text(encoding="utf-8"))["attacks"]
    for matrix in results.matrices:
        rates = [[run.rate(target) for target in matrix.targets] for run in matrix.runs]
        for key in ("fooled", "correct"):
            assert [[getattr(r, key) for r in row] for row in rates] == listed[matrix.attack][key]
        for end, key in enumerate(("low", "high")):
            for row, expected in zip(rates, listed[matrix.attack][key], strict=True):
                assert [rate.interval[end] for rate in row] == pytest.approx(expected)


def test_one_run_of_an_evaluation_can_be_loaded_alone(several):
    (run,) = loading.load(several / "ours" / "two").runs
    assert (run.attack, run.source) == (FIELD, "two")


def test_judgements_are_the_records_of_each_model(single):
    run = loading.load(single).runs[0]
    record = run.read().to_pylist()[3]
    one, two = run.judgements(record)
    row = rows_of(single)[3]
    assert (one.target, two.target) == ("one", "two")
    assert one.adversarial == row["adversarial_prediction"]
    assert two.adversarial == row["two:adversarial_prediction"]
    assert two.clean_score == pytest.approx(float(row["two:clean_score"]))


def test_what_is_no_finished_run_is_named(tmp_path):
    path = tmp_path / "summary.json"
    with pytest.raises(FileNotFoundError, match=r"summary\.json is not there.*no finished run"):
        loading.load(tmp_path)
    for text, word in (
        ("{", r"summary\.json is not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"settings": {"a": 1}, "images": 3}', r"summary\.json has no targets"),
        ('{"attacks": {}}', "lists no run"),
        ('{"attacks": {"..": {"sources": ["x"], "targets": []}}}', r"'\.\.' .* is no name"),
        ('{"attacks": {"a": {"sources": ["x/../y"], "targets": []}}}', "'x/../y' .* is no name"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=word):
            loading.load(tmp_path)
    path.write_text('{"attacks": {"a": {"sources": ["x"], "targets": []}}}')
    with pytest.raises(FileNotFoundError, match=r"a/x/summary\.json"):
        loading.load(tmp_path)


def test_missing_shards_are_named(single, tmp_path):
    shutil.copy(single / "summary.json", tmp_path)
    with pytest.raises(ValueError, match="holds no shards"):
        loading.load(tmp_path).runs[0].read()
