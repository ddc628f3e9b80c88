"""`bfjax evaluate`: many attacks on many models, on one device and in several processes."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax import cli, data, models, storage
from bfjax.evaluation import EvaluateConfig, commands, targets, verdicts
from tests.evaluation.test_attack import CLASSES, SIZE, checkpoint

COUNT, BATCH = 10, 2
ATTACKS = {"ours": "bias_field(degree=3, grid_size=3, num_steps=2)", "strong": "bim(epsilon=0.2)"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(checkpoint(folder / name, seed=i)) for i, name in enumerate(("one", "two"))]


def options(models, out, **changes):
    wanted = {
        "sources": tuple(models), "attacks": ATTACKS, "data": "phantom", "num_images": COUNT,
        "batch_size": BATCH, "measure": False,
    }  # fmt: skip
    return EvaluateConfig(out=out, **wanted | changes)


@pytest.fixture(scope="module")
def finished(sources, tmp_path_factory):
    config = options(sources, tmp_path_factory.mktemp("runs") / "whole")
    return config, commands.evaluate_models(config)


@pytest.mark.slow
def test_matrices_are_what_the_library_computes(finished):
    """From images attacked and predictions made here, by the public functions."""
    config, found = finished
    source = data.load("phantom", "test", image_size=SIZE, num_examples=COUNT)
    images = np.stack([data.to_float(record["image"]) for record in source])
    labels = np.asarray(source.labels)
    predicts = [models.load(path) for path in config.sources]
    attack = bfjax.attacks.bim(epsilon=0.2)
    attacked = [bfjax.run_batch(attack, p, images, labels).adversarial for p in predicts]

    def answers(batch):
        return np.stack([jax.vmap(p)(jnp.asarray(batch)).argmax(1) for p in predicts])

    expected = bfjax.metrics.transfer_matrix(
        labels, answers(images), np.stack([answers(batch) for batch in attacked])
    )
    matrix = found["attacks"]["strong"]
    assert (matrix["sources"], matrix["targets"]) == (["one", "two"], ["one", "two"])
    np.testing.assert_array_equal(matrix["fooled"], expected.fooled)
    np.testing.assert_array_equal(matrix["correct"], np.broadcast_to(expected.correct, (2, 2)))


def test_clean_images_are_judged_once_for_all_cells(finished, sources, tmp_path, monkeypatch):
    asked = []

    def counting(target, images, labels, class_names, **options):
        asked.append(target.name)
        return targets.answers(target, images, labels, class_names, **options)

    monkeypatch.setattr(verdicts, "answers", counting)
    config = options(sources, tmp_path / "again")
    assert commands.evaluate_models(config)["attacks"] == finished[1]["attacks"]
    batches = COUNT // BATCH
    assert len(asked) == 2 * batches * (1 + 4)  # two judges: clean, and the images of four cells
    for name in ATTACKS:
        file = f"{name}/two/records.csv"
        assert (config.out / file).read_bytes() == (finished[0].out / file).read_bytes()


def test_each_cell_is_like_the_folder_of_an_attack(finished):
    config, found = finished
    assert json.loads((config.out / "summary.json").read_text()) == found
    for name in ATTACKS:
        for source in ("one", "two"):
            cell = config.out / name / source
            assert {p.name for p in cell.iterdir()} == {
                "settings.json", "images.parquet", "summary.json", "records.csv", "shards"
            }  # fmt: skip
            settings = json.loads((cell / "settings.json").read_text())
            assert settings["attack"] == ATTACKS[name]
            columns = storage.read_shards(cell / "shards").column_names
            stored = {"params.coefficients", "params.control_points"} if name == "ours" else set()
            assert {c for c in columns if c.startswith("params")} == stored


@pytest.mark.slow
def test_an_ensemble_is_attacked_and_does_not_judge(sources, tmp_path):
    both = "+".join(sources)
    config = options([*sources, both], tmp_path, attacks={"bim": "bim(num_steps=2)"})
    matrix = commands.evaluate_models(config)["attacks"]["bim"]
    assert (matrix["sources"], matrix["targets"]) == (["one", "two", "one+two"], ["one", "two"])


def test_a_search_is_run_too(sources, tmp_path):
    search = {"search": "smallest_step(fgsm(epsilon=1.0), num_steps=5, num_finer=2)"}
    config = options(sources[:1], tmp_path, attacks=search, store_all=True, num_images=3)
    commands.evaluate_models(config)
    table = storage.read_shards(tmp_path / "search" / "one" / "shards")
    assert len(table["params['adversarial']"][0].as_py()) == SIZE * SIZE
    assert max(table["max_change"].to_pylist()) > 0


PROGRAM = """
import sys
from bfjax import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def command(sources, out, *before):
    pairs = [text for pair in ATTACKS.items() for text in pair]
    return [
        sys.executable, "-c", PROGRAM, *before, "evaluate", "--sources", *sources,
        "--attacks", *pairs, "--data", "phantom", "--num-images", str(COUNT),
        "--batch-size", str(BATCH), "--no-measure", "--out", str(out),
    ]  # fmt: skip


def assert_same(one, other):
    for name in ATTACKS:
        for source in ("one", "two"):
            tables = [storage.read_shards(out / name / source / "shards") for out in (one, other)]
            assert tables[0].equals(tables[1]), (name, source)
    found = [json.loads((out / "summary.json").read_text())["attacks"] for out in (one, other)]
    assert found[0] == found[1]


@pytest.mark.slow
def test_two_processes_of_two_devices_find_what_one_device_finds(finished, sources, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags}
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    out = tmp_path / "out"
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(log.open("w")) for log in logs]
        runs = []
        for i, file in enumerate(files):
            line = command(sources, out, "--process", f"{i}/2@localhost:{port}")
            runs.append(subprocess.Popen(line, stdout=file, stderr=file, env=environment))
        try:
            assert [run.wait(timeout=240) for run in runs] == [0, 0], logs[0].read_text()
        finally:
            for run in runs:
                run.kill()
                run.wait()
    assert "made on (row)" in logs[0].read_text()
    assert "made on (row)" not in logs[1].read_text()
    assert_same(finished[0].out, out)


def test_a_dry_run_writes_nothing(sources, tmp_path, capsys):
    line = command(sources, tmp_path / "out", "--debug")[3:]
    assert cli.main([*line, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "in all" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sources": ()}, "at least one of --sources"),
        ({"attacks": {}}, "at least one of --sources and one of --attacks"),
        ({"attacks": {"../up": "bim"}}, r"'\.\./up' is no name for a folder"),
        ({"attacks": {"a": "bin()"}}, "there is no bin"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(sources, tmp_path, changes, word):
    with pytest.raises(ValueError, match=word):
        commands.evaluate_models(options(sources, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_models_of_other_classes_are_named(sources, tmp_path):
    other = checkpoint(tmp_path / "other", class_names=CLASSES[::-1])
    with pytest.raises(ValueError, match="class_names of one is"):
        commands.evaluate_models(options(sources, tmp_path / "out", targets=(str(other),)))
