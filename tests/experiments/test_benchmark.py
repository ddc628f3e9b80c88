"""The benchmark's machinery: turns, ratios, contenders that are missing."""

import json
import math
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import models
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import contenders, gpu, readme, start, sweeps, tables, whole
from experiments.benchmark import rows as rows_module
from experiments.benchmark.alternate import Timing, alternate
from experiments.benchmark.rows import NETWORKS, OURS, Row, rows
from tests.models.parity import (
    CLASSES,
    draw_images,
    import_torch,
    torch_network,
    write_torch,
)

PEAK = Timing([2.0, 1.0, 3.0], {"flops": 20e9})


@pytest.mark.slow
def test_contenders_take_turns_in_processes_of_their_own():
    found, missing = alternate({"a": {"name": "peak"}, "b": {"name": "peak"}}, repetitions=2)
    assert set(found) == {"a", "b"}
    assert not missing
    for timing in found.values():
        assert len(timing.seconds) == 2
        assert min(timing.seconds) > 0
        assert timing.facts["flops"] == 2 * 2048**3
        assert timing.facts["peak_mib"] > 50


CHECKOUT = """
import json, sys, time
told = json.loads(sys.argv[1])
if told["name"] == "absent":
    sys.stderr.write("x" * 100_000)  # more than a pipe holds
    raise SystemExit("\\nno such thing")
time.sleep(told.get("sleep", 0))
print(json.dumps({"told": told}), flush=True)
for line in sys.stdin:
    print("not JSON")
    if told["name"] == "breaks":
        raise SystemExit("out of memory")
    print(json.dumps({"seconds": 1.5}), flush=True)
"""


@pytest.fixture
def checkout(tmp_path):
    """Another checkout, whose contenders answer at once."""
    folder = tmp_path / "checkout" / "experiments" / "benchmark"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "contenders.py").write_text(CHECKOUT, encoding="utf-8")
    return str(tmp_path / "checkout")


@pytest.mark.slow
def test_what_fails_or_is_late_is_left_out_and_said(checkout):
    named = {name: {"name": name, "path": checkout} for name in ("fine", "absent", "breaks")}
    late = {"late": {"name": "fine", "path": checkout, "sleep": 60}}
    deadline = time.monotonic() + 5
    found, missing = alternate(late | named, repetitions=3, deadline=deadline)
    assert found["fine"].seconds == [1.5]  # the first turn; then the time was up
    assert found["fine"].facts == {"told": {"name": "fine"}}
    assert set(found) == {"fine"}
    assert missing == {
        "late": "it had not started when the time was up",
        "absent": "no such thing",
        "breaks": "out of memory",
    }


def test_contenders_may_be_served_by_another_module(checkout):
    other = Path(checkout) / "experiments" / "others.py"
    other.write_text(CHECKOUT.replace("1.5", "2.5"), encoding="utf-8")
    common = {"name": "fine", "path": checkout}
    specs = {"a": common, "b": common | {"module": "experiments.others"}}
    found, missing = alternate(specs, repetitions=1)
    assert not missing
    assert [found[label].seconds for label in specs] == [[1.5], [2.5]]


def test_ours_of_another_checkout_takes_its_turn(checkout):
    row = rows_module.beside_before(Row("r", {OURS: {"name": "fine", "kept": True}}), checkout)
    found, missing = alternate({"before": row.contenders["before"]}, repetitions=2)
    assert not missing
    assert found["before"].seconds == [1.5, 1.5]
    timings = {OURS: Timing([1.0], {}), "before": found["before"], "peak": PEAK}
    result = tables.summary(row, timings, {})
    assert result["before"] == 1.5
    assert "ratio" not in result  # before is no peer
    assert tables.line("r", result).endswith("| 1.50 |")


@pytest.mark.slow
def test_a_sweep_compiles_nothing_for_another_value(monkeypatch):
    few = {name: sweeps.SWEEPS[name] for name in ("fgsm", "carlini_wagner_l2")}
    monkeypatch.setattr(sweeps, "SWEEPS", few)
    for one in sweeps.compilations().values():
        assert one["first value"] > 0
        assert set(one["another value"].values()) == {0}


def test_a_path_that_is_no_checkout_is_named(tmp_path):
    with pytest.raises(ValueError, match="is no checkout"):
        benchmark.main(benchmark.Config(before=tmp_path, out=tmp_path))


def test_the_fastest_peers_are_the_best_of_each_kind():
    seconds = {OURS: 1, "a": 3, "b": 2, "a, memory kept": 1, "b, memory kept": 4}
    known = {"timings": {k: {"median": s} for k, s in (seconds | {"peak": 0}).items()}}
    row = Row("r", {k: {"name": k} for k in seconds})
    assert set(rows_module.fastest(row, known).contenders) == {OURS, "b", "a, memory kept"}
    assert rows_module.fastest(row, {}) == row


@pytest.mark.parametrize(
    ("goal", "cost", "ours", "ratio", "met"),
    [(1.2, False, 2.0, 1.5, True), (2.0, False, 2.0, 1.5, False), (1.05, True, 4.0, 4 / 3, False)],
)
def test_ratios_are_of_medians_to_the_best_other(goal, cost, ours, ratio, met):
    row = Row("a row", {OURS: {}}, goal=goal, cost=cost)
    timings = {
        OURS: Timing([9.0, ours, 0.1], {"flops": 10e9 * ours}),
        "slow": Timing([7.0, 6.0, 5.0], {}),
        "slow, memory kept": Timing([1.0, 1.0, 1.0], {}),
        "fast": Timing([3.0, 1.0, 9.0], {}),
        "peak": PEAK,
    }
    found = tables.summary(row, timings, {})
    assert found["best_other"] == "fast"
    assert found["ratio"] == pytest.approx(ratio)
    assert found["met"] is met
    assert found["peak_gflops"] == pytest.approx(10)
    assert found["share_of_peak"] == pytest.approx(1)
    json.dumps(found)
    text = tables.line("a row", found)
    assert ("missed" in text) is not met
    assert f"{ratio:.2f}" in text


def test_a_library_that_is_missing_is_left_out_and_said(monkeypatch):
    asked = []

    def fake(specs, *, repetitions, deadline):
        asked.append(specs)
        absent = {k for k, spec in specs.items() if spec["name"] == "absent"}
        found = {k: PEAK if "peak" in k else Timing([1.0], {}) for k in specs if k not in absent}
        return found, dict.fromkeys(absent, "No module named 'absent'")

    monkeypatch.setattr(benchmark, "alternate", fake)
    present = {OURS: {"name": "bim"}, "one": {"name": "scan"}, "other": {"name": "absent"}}
    alone = Row("alone", {OURS: {"name": "bim"}, "x": {"name": "absent"}})
    found = benchmark.timed([Row("r", present), alone], 1, math.inf)
    assert found["r"]["missing"] == {"other": "No module named 'absent'"}
    assert set(found["r"]["timings"]) == {OURS, "one", "peak"}
    assert "ratio" not in found["alone"]
    assert "share_of_peak" in found["alone"]
    assert len(asked) == 1
    assert len(asked[0]) == 4  # ours, one, absent and the peak run once for both rows


def test_time_that_is_up_leaves_rows_out_and_a_kill_loses_none(monkeypatch, tmp_path):
    def fake(specs, *, repetitions, deadline):
        found = {k: Timing([1.0], {"flops": 1.0}) for k in specs}
        clock[0] = min(deadline, clock[0] + 100)
        return found, {}

    clock = [0.0]
    monkeypatch.setattr(benchmark.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(benchmark, "alternate", fake)
    config = benchmark.Config(
        platform="gpu", networks=("resnet50", "mobilenet_v1"), batches=(1, 4), out=tmp_path
    )
    benchmark.main(config)
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert len(results["rows"]) == 3 + 2 + 2  # what 300 seconds are enough for
    assert results["rows"][gpu.curve("resnet50")]["images_per_second"] == {"1": 1, "4": 4}
    assert "input gradient, resnet50, bfloat16" in results["left_out"]
    text = (tmp_path / "gpu.md").read_text()
    assert "Left out, as the time was up: input gradient, resnet50, bfloat16" in text
    assert "images a second by batch size, resnet50, tf32: 1: 1, 4: 4" in text
    assert str(tmp_path) not in text + json.dumps(results)  # no path of this machine


def test_a_gpu_is_timed_at_the_best_batch_in_every_precision():
    known = {}
    groups = gpu.groups(known, batches=(8, 32))
    found = {row.name: row for row in next(groups)}
    for network in NETWORKS:
        known[gpu.curve(network)] = {"images_per_second": {"8": 300.0, "32": 200.0}}
    found |= {row.name: row for group in groups for row in group}
    assert len(found) == 1 + 4 + 3 * 4 + 2 * 4
    for network in NETWORKS:
        for dtype in ("float32", "tf32", "bfloat16"):
            row = found[f"input gradient, {network}, {dtype}"]
            assert {spec["batch"] for spec in row.contenders.values()} == {8}
            assert {spec["dtype"] for spec in row.contenders.values()} == {dtype}


ON_A_CPU_ALONE = (
    {"name": "certificate", "times": 2},
    {"name": "forward"},
    {"name": "scan"},
    {"name": "bounded"},
    {"name": "native", "native_side": 40},
    {"name": "stream", "early_stop": True, "images": 2},
    {"name": "sensitivity_maps", "steps": 1},
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of peers, when imported
@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter`:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(contenders.CONTENDERS))
def test_what_is_asked_of_each_contender_works(name):
    """Once each, of few and mostly small images; PyTorch does not compile here."""
    if name in ("foolbox_torch", "torch_gradient", "torchattacks_bim"):
        import_torch()
    if name == "torchattacks_bim":
        # Right, for nothing of bfjax is behind it: this peer wants torchvision, gigabytes more, so
        # CI has it not, and that the benchmark then leaves it out and says so is tested above.
        pytest.importorskip("torchattacks", reason="a peer that only the [bench] extra brings")
    options = {"batches": (2,), "networks": ("mobilenet_v2",), "side": 32, "matrix": 16}
    rows = [row for group in gpu.groups({}, **options) for row in group]
    specs = [spec for row in rows for spec in (*row.contenders.values(), row.peak)]
    specs += [{"network": "mobilenet_v2", "batch": 1, **spec} for spec in ON_A_CPU_ALONE]
    asked = {json.dumps(spec): spec for spec in specs if spec["name"] == name}
    assert asked
    for spec in asked.values():
        told = {k: v for k, v in spec.items() if k not in ("name", "kept")}
        if told.get("layout") == "compile":
            told["layout"] = "channels_last"
        work, facts = contenders.CONTENDERS[name](**told)
        assert work() is not None
        assert facts.get("flops", 1) > 0


def test_the_readme_tells_what_was_measured():
    results = json.loads((benchmark.RESULTS / "cpu.json").read_text(encoding="utf-8"))
    text = (readme.EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    assert readme.drawn(text, results) == text
    results["rows"]["input gradient, resnet50, float32"]["timings"][OURS]["median"] = 7.77
    assert "| ResNet50 | 7.77 |" in readme.drawn(text, results)


@pytest.mark.slow
def test_a_certificate_takes_as_many_lights_as_it_is_compared_with():
    certified = contenders.certificate("mobilenet_v2", 2, 2)[0]()
    assert certified.counts.sum() == 2  # the first batch is the guess
    forward = contenders.forward("mobilenet_v2", 2, 2)[0]()
    assert [logits.shape for logits in forward] == [(2, contenders.CLASSES)] * 2


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
