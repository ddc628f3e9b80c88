"""The same run, killed and restarted, or over two devices: real processes, real signals."""

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from bfjax import cli

STEPS = 6  # of an epoch: of 60 phantoms 54 are trained on, eight at a time
OPTIONS = [
    "train", "--data", "phantom", "--model", "convnet", "--image-size", "32",
    "--num-examples", "60", "--epochs", "3", "--batch-size", "8", "--head-learning-rate", "1e-3",
]  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run, undisturbed, in this process."""
    folder = tmp_path_factory.mktemp("exact") / "whole"
    assert cli.main([*OPTIONS, "--out", str(folder)]) == 0
    return folder


def rows(folder):
    with (folder / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def saved(folder):
    """The newest step whose state is whole."""
    names = [f.name for f in (folder / "training").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def test_a_run_killed_within_an_epoch_ends_as_the_undisturbed_one(whole, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "bfjax.cli", *OPTIONS, "--out", str(folder)]
    command += ["--save-steps", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        while saved(folder) < STEPS + 2:
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert STEPS < saved(folder) < 2 * STEPS
    assert len(rows(folder)) == 1
    assert not (folder / "config.json").exists()

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stderr == ""  # neither Orbax nor Grain has anything to say
    assert rows(folder) == rows(whole)
    one, other = (json.loads((f / "config.json").read_text()) for f in (whole, folder))
    assert other["metrics"]["test"] == one["metrics"]["test"]
    assert other["sha256"] == one["sha256"]
    names = {"config.json", "curves.png", "log.csv", "model.safetensors"}
    names |= {"images_train.parquet", "images_test.parquet"}
    assert {f.name for f in folder.iterdir()} == names


def test_two_devices_train_as_one(whole, tmp_path):
    program = (
        "import sys\n"
        "from bfjax import cli\nfrom bfjax.data import feed\n"
        "assert feed.split_batches(8).mesh.size == 2\n"
        "assert feed.split_batches(7).mesh.size == 1\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", program, *OPTIONS, "--out", str(tmp_path)],
        env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, check=True,
    )  # fmt: skip
    assert_equal_to_rounding(whole, tmp_path)


def test_two_processes_train_as_one(whole, tmp_path):
    """Each reads its own half of every batch, and the folder is one and the same."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    program = (
        "import sys, jax\n"
        "jax.distributed.initialize('localhost:' + sys.argv[1], 2, int(sys.argv[2]))\n"
        "from bfjax import cli\n"
        "sys.exit(cli.main(sys.argv[3:]))\n"
    )
    options = [*OPTIONS, "--out", str(tmp_path / "out"), "--save-steps", "4"]
    command = [sys.executable, "-c", program, str(port)]
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    with contextlib.ExitStack() as stack:
        runs = [
            subprocess.Popen([*command, str(i), *options], stdout=file, stderr=subprocess.STDOUT)
            for i, file in enumerate(stack.enter_context(log.open("w")) for log in logs)
        ]
        try:
            assert [run.wait(timeout=240) for run in runs] == [0, 0], logs[0].read_text()
        finally:
            for run in runs:
                run.kill()
                run.wait()
    assert_equal_to_rounding(whole, tmp_path / "out")
    assert not (tmp_path / "out" / "training").exists()


def assert_equal_to_rounding(whole, folder):
    assert len(rows(folder)) == 3
    for one, two in zip(rows(whole), rows(folder), strict=True):
        for name in ("train_loss", "val_loss"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3)
