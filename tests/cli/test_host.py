"""Whatever is around the program: encodings, closed or full streams, a host, devices, a cluster.

The program must say how the work went, and leave a host as it was.
"""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import matplotlib as mpl
import numpy as np
import pytest

from bfjax import cli, evaluation, memory
from bfjax.cli import host

OPTIONS = ["--data=phantom", "--image-size=32", "--num-images=4", "--degree=3", "--grid-size=3"]
OPTIONS += ["--num-steps=2", "--gallery=0", "--no-measure"]
MODULE = """
import os
import warnings
import jax.numpy as jnp

if "WARN" in os.environ:
    warnings.warn("a model of naïve → weights")

def darker(image):
    return 9 * jnp.stack([image[:16].mean(), image[16:].mean()])

def broken(image):
    raise ValueError("naïve → \\udcff")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A current folder that holds a model."""
    path = tmp_path_factory.mktemp("models")
    (path / "own_host_model.py").write_text(MODULE, encoding="utf-8")
    return path


def program(folder, out, *more, model="darker", shell="", **environment):
    """The command in a process of its own; `shell` says what is done to its streams."""
    words = [sys.executable, "-m", "bfjax", "attack", "--model", f"own_host_model:{model}"]
    words += [*OPTIONS, "--out", str(out), *more]
    own = os.environ | {"PYTHONPATH": str(Path.cwd()), "WARN": "yes"} | environment
    line = ["bash", "-c", f'"$@" {shell}', "bash", *words] if shell else words
    return subprocess.run(line, cwd=folder, env=own, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"},
    ],
    ids=lambda environment: " ".join(environment.values()),
)
def test_every_encoding_of_the_terminal_will_do(environment, folder, tmp_path):
    done = program(folder, tmp_path / "out", **environment)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"NORMAL\\u2192PNEUMONIA" in done.stdout  # an arrow, as an escape
    assert b"of na" in done.stderr
    assert b"ve \\u2192 weights" in done.stderr
    done = program(folder, tmp_path / "other", model="broken", **environment)
    assert done.returncode == 1
    assert b"own_host_model:broken failed: ValueError: na" in done.stderr
    assert b"\\u2192 \\udcff" in done.stderr


GONE = "| true; exit ${PIPESTATUS[0]}"
STREAMS = {  # what is done to the streams -> the status of a good run and of one that fails
    ">&-": (0, 1),
    ">&- 2>&- <&-": (0, 1),
    f"2>&1 {GONE}": (0, 1),
    "2>/dev/full": (0, 1),
    ">/dev/full": (1, 1),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("shell", STREAMS)
def test_the_status_is_that_of_the_work_whatever_becomes_of_the_streams(shell, folder, tmp_path):
    good, bad = STREAMS[shell]
    done = program(folder, tmp_path / "out", shell=shell)
    assert done.returncode == good, done.stderr
    assert (tmp_path / "out" / "summary.json").exists()  # all the work was done
    told = [line for line in done.stderr.splitlines() if b"warning" not in line]
    full = [b"bfjax: error: standard output: No space left on device"]
    assert told == (full if shell == ">/dev/full" else [])
    for file in (tmp_path / "out").rglob("*"):  # none got the number of a closed stream
        assert file.is_dir() or b"a model of na" not in file.read_bytes()
    done = program(folder, tmp_path / "other", model="broken", shell=shell)
    assert done.returncode == bad
    assert b"Traceback" not in done.stderr + done.stdout
    assert (b"own_host_model:broken failed" in done.stderr) == ("2>" not in shell)


def surroundings():
    """All that a command might change of the process that it is run in."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    return {
        "showwarning": warnings.showwarning,
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "folder": Path.cwd(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "errors": (sys.stdout.errors, sys.stderr.errors),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook),
        "signals": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "levels": {
            log.name: (log.level, log.disabled, [*log.handlers, *log.filters]) for log in loggers
        },
        "random": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "floats": np.geterr(),
        "jax": {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_platforms")},
        "pictures": (dict(mpl.rcParams), mpl.get_backend(auto_select=False)),
        "recursion": sys.getrecursionlimit(),
    }


def filters_of_ours():
    """Those that bfjax has put on loggers, also on such as a command has brought."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    return {
        log.name: [f for f in log.filters if getattr(f, "__module__", "").startswith("bfjax.")]
        for log in loggers
    }


@pytest.mark.slow
def test_a_guest_leaves_its_host_as_it_was(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(memory, "keep_freed", lambda: pytest.fail("the host's memory is its own"))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest has some
    out, model = tmp_path / "out", "--model=own_host_model:darker"
    train = ["train", "--model=convnet", "--data=phantom", "--image-size=32", "--num-examples=24"]
    train += ["--batch-size=8", "--epochs=1"]
    commands = {
        "attack": (["attack", model, *OPTIONS, f"--out={out}", "--native"], 0),
        "nothing to explain": (["explain", str(out), model, "--num-steps=1"], 1),
        "report": (["report", str(out)], 0),
        "evaluate": (["evaluate", "--sources", "own_host_model:darker", "--attacks", "f", "fgsm",
                      *OPTIONS[:3], f"--out={tmp_path / 'all'}", "--no-measure"], 0),
        "train": ([*train, f"--out={tmp_path / 'model'}"], 0),
        "failing": (["attack", "--model=own_host_model:broken", *OPTIONS, f"--out={out}2"], 1),
        "no model": (["attack", "--model=nowhere:f", *OPTIONS, f"--out={out}3"], 1),
        "no process": (["--process=9", "attack"], 1),
        "usage": (["attack", "--degree=many"], 2),
        "help": (["attack", "--help"], 0),
    }  # fmt: skip
    for log in ("absl", "asyncio"):  # a training that could not be saved, in another test, leaves
        monkeypatch.setattr(logging.getLogger(log), "filters", [])
    filters = filters_of_ours()
    for name, (arguments, status) in commands.items():
        before = surroundings()
        try:
            with np.errstate(all="raise"):
                found = cli.main(arguments)
        except SystemExit as stop:  # help and usage end the program
            found = stop.code
        err = capsys.readouterr().err
        assert found == status, (name, err)
        after = surroundings()
        after["levels"] = {log: after["levels"][log] for log in before["levels"]}
        assert after == before, name
        now = filters_of_ours()
        assert not [f for log in now for f in now[log] if f not in filters.get(log, [])], name
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


def test_a_guest_puts_up_with_a_host_without_streams(monkeypatch):
    """As under pythonw, or where a service has closed them."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["attack", "--model=m", "--print-config"]) == 0
    assert cli.main(["--process=9", "attack"]) == 1
    assert (sys.stdout, sys.stderr) == (None, None)


def test_a_guest_may_be_run_in_any_thread(capsys):
    found = []
    command = ["attack", "--model=m", "--print-config"]
    thread = threading.Thread(target=lambda: found.append(cli.main(command)))
    thread.start()
    thread.join()
    assert found == [0]
    assert 'model = "m"' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["nonsense", "cuda"])
def test_a_kind_of_device_that_is_not_there_is_named(platform, folder, tmp_path):
    # right: with such a device the platform is there, and nothing is to be refused. "nonsense" is
    # tried everywhere, and CI has no accelerator, so that both run there
    if platform != "nonsense" and jax.default_backend() != "cpu":
        pytest.skip("needs a machine without accelerators: this one may have the device")
    done = program(folder, tmp_path / "out", JAX_PLATFORMS=platform)
    (line,) = [line for line in done.stderr.splitlines() if b"warning" not in line]
    assert done.returncode == 1
    assert line.startswith(f"bfjax: error: JAX_PLATFORMS={platform}: ".encode())
    words = [sys.executable, "-m", "bfjax", "--debug", "attack", *OPTIONS]
    words += ["--model=own_host_model:darker", f"--out={tmp_path / 'out'}"]
    own = os.environ | {"PYTHONPATH": str(Path.cwd()), "JAX_PLATFORMS": platform}
    done = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True)
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory, and a smaller --batch-size takes less: MemoryError:"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes.\nAt length"),
            "out of memory, and a smaller --batch-size takes less: JaxRuntimeError: RESOURCE_EXH",
        ),
        (KeyError("left"), "KeyError: 'left'"),
        (AssertionError(), "AssertionError:"),
        (BrokenPipeError(32, "Broken pipe"), "[Errno 32] Broken pipe"),
    ],
)
def test_any_error_is_one_line_and_with_debug_a_traceback(error, told, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(evaluation, "attack", fail)
    assert cli.main(["attack", "--model=m"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"bfjax: error: {told}")
    assert err.count("\n") == 1
    with pytest.raises(type(error)):
        cli.main(["--debug", "attack", "--model=m"])


def test_auto_says_where_no_cluster_is_found(monkeypatch, capsys):
    def initialize(*arguments):
        assert arguments == ()
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    assert cli.main(["--process", "auto", "attack", "--model=m"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--process auto: neither Slurm, Open MPI, Kubernetes nor a TPU pod was found" in err
    assert "--process 0/2@localhost:8476" in err


@pytest.mark.slow
def test_processes_that_slurm_starts_find_each_other(folder, tmp_path):
    """Slurm's variables as `srun` sets them; JAX makes the port from the number of the job."""
    job = 1000 + os.getpid() % 3000
    runs = []
    words = [sys.executable, "-m", "bfjax", "--process=auto", "attack", *OPTIONS]
    words += ["--model=own_host_model:darker", f"--out={tmp_path / 'out'}", "--batch-size=2"]
    for i in range(2):
        slurm = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": i}
        slurm |= {"LOCALID": i, "STEP_NUM_NODES": 1}
        own = os.environ | {f"SLURM_{name}": str(value) for name, value in slurm.items()}
        own["PYTHONPATH"] = str(Path.cwd())
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        runs.append(subprocess.Popen(words, cwd=folder, env=own, **pipes))
    try:
        told = [run.communicate(timeout=200) for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert [run.returncode for run in runs] == [0, 0], told
    assert b"details in" in told[0][0]
    assert b"details in" not in told[1][0]  # the first of them speaks for both


def test_warnings_of_several_threads_are_whole_lines(monkeypatch):
    written = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", written.append)
    monkeypatch.setattr(sys, "stderr", stream)
    show = host._once()
    for i in range(2):
        show(UserWarning(f"{i}.png: every\npixel"), UserWarning, "image.py", 1)
    assert written == [f"bfjax: warning: {i}.png: every pixel\n" for i in range(2)]
