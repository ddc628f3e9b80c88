import json

import pytest

from experiments import certificates
from tests.evaluation.test_attack import checkpoint


@pytest.mark.slow
def test_certificates_become_a_table_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    model = str(checkpoint(tmp_path / "model"))
    options = {"few_images": 2, "num_samples": 12, "data": "phantom"}
    certificates.main(certificates.Config(few=(model,), **options))
    table = (tmp_path / "results" / "certificates.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in table if line.startswith("| model, few | 2 |")]) == 2
    assert (tmp_path / "results" / "certificates.png").exists()
    text = (tmp_path / "results" / "model-few.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    found = json.loads(text)
    assert found["smoothed"]["images"] == 2
    assert json.loads((tmp_path / "results" / "certificates.json").read_text()) == {
        "model, few": found
    }
