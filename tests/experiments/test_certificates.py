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
    with pytest.raises(ValueError, match="two folders have one name"):
        certificates.main(certificates.Config(few=(model, model), **options))
    table = (tmp_path / "results" / "certificates-0.05.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in table if line.startswith("| model-0.05, few | 2 |")]) == 2
    assert (tmp_path / "results" / "certificates-0.05.png").exists()
    text = (tmp_path / "results" / "model-0.05-few.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    found = json.loads(text)
    assert found["smoothed"]["images"] == 2
    assert json.loads((tmp_path / "results" / "certificates-0.05.json").read_text()) == {
        "model-0.05, few": found
    }
