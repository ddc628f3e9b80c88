import json
import shutil

import pytest

from bfjax.evaluation.standard import testing
from experiments import audits, one_light
from tests.evaluation.standard.test_standard import judged
from tests.evaluation.test_attack import checkpoint


@pytest.mark.slow
def test_audits_become_a_table_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(audits, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    usual = audits.AuditConfig

    def quick(**options):
        short = {"ranges": (0.4,), "exposures": ("fixed",), "num_random": 1, "universal_steps": 2}
        return usual(**options | short)

    monkeypatch.setattr(audits, "AuditConfig", quick)
    monkeypatch.setattr(audits, "CORRECTIONS", ("homomorphic",))
    monkeypatch.setattr(testing, "judge_correction", judged)
    model = str(checkpoint(tmp_path / "model"))
    others = {"corrected": (model,), "pytorch": (model,), "pytorch_images": 2}
    config = audits.Config(few=(model,), few_images=4, data="phantom", **others)
    audits.main(config)
    table = (tmp_path / "results" / "audits.md").read_text(encoding="utf-8")
    for told in ("one for all images", "a machine's worst set-up", "correction, straight through"):
        assert told in table
    assert (tmp_path / "results" / "audits.png").exists()
    text = (tmp_path / "results" / "model-few.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    tiers = json.loads(text)["rows"]["fixed"]["tiers"]
    assert tiers[0]["accuracy"] <= tiers[0]["universal_accuracy"]
    text = (tmp_path / "results" / "model-pytorch.json").read_text(encoding="utf-8")
    assert json.loads(text)["settings"]["num_images"] == 2
    shutil.rmtree(tmp_path / "home")
    monkeypatch.setattr(audits.standard, "audit_models", pytest.fail)  # nothing is made again
    audits.main(config)
    assert (tmp_path / "results" / "audits.md").read_text(encoding="utf-8") == table
    with pytest.raises(ValueError, match="two folders have one name"):
        audits.main(audits.Config(few=(model, "elsewhere/model"), data="phantom"))


@pytest.mark.slow
def test_one_light_is_fitted_on_more_and_more_images_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(one_light, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(one_light, "RANGES", (0.4,))
    monkeypatch.setattr(one_light, "COUNTS", (2, 4))
    model = checkpoint(tmp_path / "model")
    options = {"num_images": 6, "num_steps": 2, "batch_size": 2, "judges": (model,)}
    config = one_light.Config(model=model, data="phantom", **options)
    one_light.main(config)
    found = json.loads((tmp_path / "results" / "one_light.json").read_text())["found"]
    assert [one["fitted"] for one in found.values()] == [2, 4]
    for one in found.values():
        assert sum(k for k, _ in one["by_class"]) == one["fooled"]
        assert sum(n for _, n in one["by_class"]) == one["correct"]
        (by,) = one["judges"].values()  # which is the model itself
        assert by == {name: one[name] for name in by}
    assert capsys.readouterr().out.count("0.4; ") == 2
    one_light.main(config)
    assert capsys.readouterr().out == ""  # nothing was made again
    with pytest.raises(ValueError, match="--num-images must leave images"):
        one_light.main(one_light.Config(model=model, data="phantom", num_images=None))
