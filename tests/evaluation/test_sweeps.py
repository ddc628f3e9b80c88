"""An evaluation of attacks that differ in numbers alone compiles them once."""

import pytest

from bfjax.attack import vmapped
from bfjax.evaluation import EvaluateConfig, evaluate_models
from tests.evaluation.test_attack import checkpoint

STEP = "step_size=0.03, num_steps=2"
FIELD = "degree=2, grid_size=3, num_steps=2"


@pytest.mark.slow
def test_a_strength_curve_is_one_program(tmp_path):
    checkpoint(tmp_path / "model")
    values = (0.02, 0.05, 0.1)
    attacks = {f"bim {v}": f"bim(epsilon={v}, {STEP})" for v in values}
    attacks |= {f"ours {v}": f"bias_field(max_change={v}, {FIELD})" for v in values}
    weighed = f"max_change=0.1, {FIELD}"
    attacks |= {f"weight {v}": f"bias_field(l1_coefficients={v}, {weighed})" for v in values}
    before = [f._cache_size() for f in (vmapped.init, vmapped.step, vmapped._decided)]
    options = {"data": "phantom", "num_images": 4, "batch_size": 4, "measure": False}
    sources = (str(tmp_path / "model"),)
    config = EvaluateConfig(sources=sources, attacks=attacks, out=tmp_path / "out", **options)
    found = evaluate_models(config)
    after = [f._cache_size() for f in (vmapped.init, vmapped.step, vmapped._decided)]
    # one for bim, one for ours, if no test before has compiled them
    assert max(b - a for a, b in zip(before, after, strict=True)) <= 2
    assert len(found["attacks"]) == 9
