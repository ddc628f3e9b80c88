import json

from PIL import Image

from experiments import figure2, white_box
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


def test_figure2_attacks_all_and_draws_what_both_fields_fool(tmp_path, monkeypatch):
    monkeypatch.setattr(figure2, "RESULTS", tmp_path / "figure2")
    model = checkpoint(tmp_path / "model")
    figure2.main(figure2.Config(model=model, data="phantom", num_images=20, batch_size=8))
    summary = json.loads((tmp_path / "figure2" / "eq3-step-0.06.json").read_text(encoding="utf-8"))
    assert summary["images"] == 20
    assert 0 <= summary["fooled"] <= summary["correct"] <= 20
    losses = summary["mean_cross_entropy"]
    assert losses["adversarial"] > losses["clean"]
    with Image.open(tmp_path / "figure2" / "figure2.png") as picture:
        assert picture.width > 600
    assert (tmp_path / "figure2" / "figure2.pdf").read_bytes().startswith(b"%PDF")
