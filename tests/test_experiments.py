import json

from experiments import white_box
from tests.test_evaluate import checkpoint


def test_white_box_runs_resumes_and_draws_up_its_table(tmp_path, monkeypatch):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(white_box, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(white_box, "MIN_DEGREES", (2,))
    config = white_box.Config(model=checkpoint(tmp_path / "model"), data="phantom", batch_size=64)
    white_box.main(config)
    table = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    for number, name in enumerate(white_box.SETTINGS):
        file = tmp_path / "results" / f"setting{number}-D0=2.json"
        judged = json.loads(file.read_text(encoding="utf-8"))["targets"]["model"]
        expected = f"| {name} | {100 * judged['rate']:.1f} ({judged['fooled']}/{judged['correct']})"
        assert expected in table
    shards = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    white_box.main(config)
    assert shards == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
