"""The benchmark's machinery: turns, ratios, contenders that are missing."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import models
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import contenders, start, whole
from experiments.benchmark.alternate import Timing, UnavailableError, alternate
from experiments.benchmark.rows import NETWORKS, OURS, Row, rows
from tests.models.parity import CLASSES, draw_images, import_torch, torch_network, write_torch

PEAK = Timing([2.0, 1.0, 3.0], {"flops": 20e9})


@pytest.mark.slow
def test_contenders_take_turns_in_processes_of_their_own():
    found = alternate({"a": {"name": "peak"}, "b": {"name": "peak"}}, repetitions=2)
    assert set(found) == {"a", "b"}
    for timing in found.values():
        assert len(timing.seconds) == 2
        assert min(timing.seconds) > 0
        assert timing.facts["flops"] == 2 * 2048**3
        assert timing.facts["peak_mib"] > 50


@pytest.mark.slow
def test_one_that_cannot_start_is_named():
    with pytest.raises(UnavailableError, match="no_such_contender"):
        alternate({"a": {"name": "no_such_contender"}}, repetitions=1)


@pytest.mark.parametrize(
    ("goal", "cost", "ours", "ratio", "met"),
    [(1.2, False, 2.0, 1.5, True), (2.0, False, 2.0, 1.5, False), (1.05, True, 4.0, 4 / 3, False)],
)
def test_ratios_are_of_medians_to_the_best_other(goal, cost, ours, ratio, met):
    row = Row("a row", {}, goal=goal, cost=cost)
    timings = {
        OURS: Timing([9.0, ours, 0.1], {"flops": 10e9 * ours}),
        "slow": Timing([7.0, 6.0, 5.0], {}),
        "slow, memory kept": Timing([1.0, 1.0, 1.0], {}),
        "fast": Timing([3.0, 1.0, 9.0], {}),
        "peak": PEAK,
    }
    found = benchmark.summary(row, timings)
    assert found["best_other"] == "fast"
    assert found["ratio"] == pytest.approx(ratio)
    assert found["met"] is met
    assert found["peak_gflops"] == pytest.approx(10)
    assert found["share_of_peak"] == pytest.approx(1)
    json.dumps(found)
    text = benchmark.line("a row", found | {"goal": goal, "cost": cost, "missing": {}})
    assert ("missed" in text) is not met
    assert f"{ratio:.2f}" in text


def test_a_library_that_is_missing_is_left_out_and_said(monkeypatch):
    def fake(specs, *, repetitions):
        if any(spec["name"] == "absent" for spec in specs.values()):
            raise UnavailableError("No module named 'absent'")
        return {k: PEAK if k == "peak" else Timing([1.0], {}) for k in specs}

    monkeypatch.setattr(benchmark, "alternate", fake)
    present = {OURS: {"name": "bim"}, "one": {"name": "bim"}, "other": {"name": "absent"}}
    found = benchmark.timed(Row("r", present, goal=1), repetitions=1)
    assert found["missing"] == {"other": "No module named 'absent'"}
    assert set(found["timings"]) == {OURS, "one", "peak"}
    one = Row("r", {OURS: {"name": "bim"}, "x": {"name": "absent"}}, goal=1)
    alone = benchmark.timed(one, repetitions=1)
    assert "no other could start" in benchmark.line("r", alone)


def test_all_rows_name_contenders_that_exist_and_all_networks():
    found = rows(batch=8, dtypes=("float32", "bfloat16"))
    assert len({row.name for row in found}) == len(found)
    for row in found:
        assert next(iter(row.contenders)) == OURS
        assert {spec["name"] for spec in row.contenders.values()} <= set(contenders.CONTENDERS)
    for network in NETWORKS:
        assert sum(network in row.name for row in found) >= 4


def test_the_gradient_is_that_of_the_peer(tmp_path):
    """Of equal weights: what PyTorch is timed at is what we are timed at."""
    torch = import_torch()
    network, images = torch_network("mobilenet_v2"), draw_images(2, 32, 32, 3)
    model = models.build("mobilenet_v2", num_classes=CLASSES, channels=3)
    model = models.load_pretrained(model, write_torch(network, tmp_path / "weights.npz"))
    predict = models.as_predict(models.freeze(model))
    ours = contenders._gradient(predict, jnp.asarray(images), jnp.zeros(2, jnp.int32))
    mean, std = (np.float32(x) for x in (model.config.mean, model.config.std))
    x = torch.tensor(((images - mean) / std).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    labels = torch.zeros(2, dtype=torch.long)
    torch.nn.functional.cross_entropy(network(x), labels, reduction="sum").backward()
    theirs = x.grad.numpy().transpose(0, 2, 3, 1) / std
    assert np.abs(np.asarray(ours) - theirs).max() <= 1e-3 * np.abs(theirs).max()


@pytest.mark.slow
def test_whole_runs_report_seconds_and_memory(monkeypatch):
    monkeypatch.setattr(whole, "SIDE", 32)
    found = whole.scaling(counts=(3,))
    assert set(found) == {"3"}
    for one in found.values():
        assert 0 < one["attack"] < one["process"]
        assert one["peak_mib"] > 50


@pytest.mark.slow
def test_a_whole_run_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="no checkpoint at"):
        whole.run(tmp_path / "out", tmp_path / "none", count=1, batch=1, cache=tmp_path)


@pytest.mark.slow
def test_a_second_start_is_told_by_its_parts():
    (found,) = start.second_start(("convnet",), side=32, count=2).values()
    first, second = found["first"], found["second"]
    assert (
        first["parts"].keys() == second["parts"].keys() >= {"imports", "tracing", "steps", "rest"}
    )
    assert second["parts"]["compiling or loading"] < first["parts"]["compiling or loading"]
    for one in (first, second):
        assert min(one["parts"].values()) > 0
        assert sum(one["parts"].values()) == pytest.approx(one["process"])
