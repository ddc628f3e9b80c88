import json

import pytest

from experiments import bounds
from tests.evaluation.test_attack import checkpoint


@pytest.mark.slow
def test_methods_are_measured_once_and_hold_their_bound(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bounds, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bounds, "RANGES", (0.4,))
    monkeypatch.setattr(bounds, "STEPS", 4)
    model = checkpoint(tmp_path / "model")
    config = bounds.Config(model=model, data="phantom", num_images=6, batch_size=4)
    bounds.main(config)
    text = (tmp_path / "results" / "bounds.json").read_text(encoding="utf-8")
    found = json.loads(text)["found"]
    assert len(found) == len(bounds.METHODS)
    assert str(tmp_path) not in text
    for key, one in found.items():
        assert 0 < one["log_range"] <= 0.4 + 1e-5, key
        ways = one["directions"].values()
        assert sum(way["fooled"] for way in ways) == one["fooled"]
        assert sum(way["correct"] for way in ways) == one["correct"]
    table = (tmp_path / "results" / "bounds.md").read_text(encoding="utf-8")
    assert table.count("slope") == 1 + len(bounds.METHODS)
    assert capsys.readouterr().out.count("; 0.4") == len(bounds.METHODS)
    bounds.main(config)
    assert capsys.readouterr().out == ""  # nothing was made again
