"""What people really hand to the commands: each gets one line that names it, and leaves nothing."""

import json
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from PIL import Image

from bfjax import cli, models, storage
from bfjax.evaluation import AttackConfig, cells, commands, gallery, runner
from tests.evaluation.test_attack import CLASSES, SIZE, checkpoint

FAST = ["--degree=3", "--grid-size=3", "--num-steps=2", "--batch-size=4", "--no-measure"]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (SIZE, SIZE), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder(root, *, classes=CLASSES):
    """A good folder of class folders, two pictures each."""
    for name in classes:
        for number in (1, 2):
            picture(root / name / f"person{number}.png")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
    """A finished attack."""
    out = tmp_path_factory.mktemp("results") / "run"
    commands.attack_dataset(
        AttackConfig(
            **{"model": str(model), "data": "phantom", "num_images": 4, "out": out},
            **{"degree": 3, "grid_size": 3, "num_steps": 2, "measure": False, "gallery": 0},
        )
    )
    return out


def bomb():
    """A PNG of some hundred bytes that says it has 3.6 billion pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


# name of the bad file -> what is done to a good one there
BAD_IMAGES = {
    "truncated.png": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "empty.png": lambda path: path.write_bytes(b""),
    "text.jpeg": lambda path: path.write_text("no picture"),
    "bomb.png": lambda path: path.write_bytes(bomb()),
    "lungs é中.png": lambda path: path.write_bytes(b"\x89PNG"),
    "two\nlines.png": lambda path: path.write_bytes(b"\x89PNG"),
    "loop.png": lambda path: (path.unlink(), path.symlink_to(path)),
    "gone.png": lambda path: (path.unlink(), path.symlink_to(path.parent / "nowhere")),
    "folder.png": lambda path: (path.unlink(), path.mkdir()),
}


def failed(capsys, *arguments):
    """The one line that a command prints before it ends with status 1."""
    assert cli.main([str(a) for a in arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bfjax: error: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def finals(out):
    """What lies under a final name: hidden files are unfinished ones."""
    return [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* do not tell the patient:UserWarning")
@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize("command", ["attack", "evaluate", "train"])
def test_a_bad_image_is_named(command, name, model, tmp_path, capsys):
    data = folder(tmp_path / "images")
    BAD_IMAGES[name](picture(data / "NORMAL" / name))
    out = tmp_path / "out"
    options = {
        "attack": ["--model", model, *FAST, "--split=all"],
        "evaluate": ["--sources", model, "--attacks", "f", "fgsm", "--split=all"],
        "train": ["--model=convnet", "--image-size=32", "--batch-size=2", "--epochs=1"],
    }[command]
    if command == "train":  # it has splits of its own
        for split in ("train", "test"):
            folder(tmp_path / "splits" / split)
        BAD_IMAGES[name](picture(tmp_path / "splits" / "train" / "NORMAL" / name))
        data = tmp_path / "splits"
    err = failed(capsys, command, "--data", data, "--out", out, *options)
    assert " ".join(name.split()) in err  # messages are one line, whatever a name holds
    about = ("settings.json", "images.parquet", "images_train.parquet")
    assert not [path for path in finals(out) if path.name not in about]


def zip_slip(tmp_path):
    path = tmp_path / "slip.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in CLASSES:
            file.write(picture(tmp_path / "p.png"), f"../../{name}/evil.png")
    return path


def no_zip(tmp_path):
    path = tmp_path / "cut.zip"
    path.write_bytes(b"PK\x03\x04 cut off")
    return path


def text_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no images")
    return path


def loop(tmp_path):
    path = tmp_path / "loop"
    path.symlink_to(path)
    return path


def empty(tmp_path):
    path = tmp_path / "empty"
    path.mkdir()
    return path


DATA = {
    "zip slip": (zip_slip, "slip.zip"),
    "damaged zip": (no_zip, "cut.zip"),
    "a text": (text_file, "notes.txt"),
    "a loop": (loop, "loop"),
    "an empty folder": (empty, "empty"),
    "nothing": (lambda tmp_path: tmp_path / "nowhere", "nowhere"),
    "three classes": (
        lambda tmp_path: folder(tmp_path / "images", classes=(*CLASSES, "OTHER")),
        "OTHER",
    ),
}


@pytest.mark.parametrize("kind", DATA)
def test_bad_data_are_named(kind, model, tmp_path, capsys):
    make, told = DATA[kind]
    before = set(tmp_path.parent.rglob("evil.png"))
    err = failed(
        capsys, "attack", "--model", model, "--data", make(tmp_path), "--split=all",
        "--out", tmp_path / "out", *FAST,
    )  # fmt: skip
    assert told in err
    assert set(tmp_path.parent.rglob("evil.png")) == before
    assert not (tmp_path / "out").exists()


def nan_weights(tmp_path):
    return checkpoint(tmp_path / "nan", scale=float("nan"))


def damaged(name, change):
    def make(tmp_path):
        made = checkpoint(tmp_path / "damaged")
        change(made / name)
        return made

    return make


def wrong_classes(tmp_path):
    known = {"class_names": ("A", "B", "C"), "image_size": SIZE, "resize": "squash"}
    return models.save(
        models.build("convnet", width=0.25, num_classes=3), tmp_path / "three", metadata=known
    )


MODELS = {
    "missing": (lambda tmp_path: tmp_path / "nowhere", "nowhere"),
    "a text": (text_file, "notes.txt"),
    "a loop": (loop, "loop"),
    "an empty folder": (empty, "empty"),
    "NaN weights": (nan_weights, "NaN"),
    "other classes": (wrong_classes, "A, B, C"),
    "no JSON": (damaged("config.json", lambda path: path.write_text("{")), "config.json"),
    "JSON of another kind": (damaged("config.json", lambda p: p.write_text("[]")), "config.json"),
    "no config": (damaged("config.json", Path.unlink), "config.json"),
    "no weights": (damaged("model.safetensors", Path.unlink), "model.safetensors"),
    "empty weights": (
        damaged("model.safetensors", lambda path: path.write_bytes(b"")),
        "model.safetensors",
    ),
}
FUNCTIONS = {
    "no module": (lambda _: "no_such_module:predict", "no_such_module"),
    "no function": (lambda _: "json:no_such_function", "no_such_function"),
}


def pairs(commands, kinds):
    return [pytest.param(c, k, id=f"{c}-{k}") for c in commands for k in kinds]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "kind"),
    pairs(["attack", "evaluate", "explain"], MODELS | FUNCTIONS) + pairs(["export"], MODELS),
)
def test_a_bad_model_is_named(command, kind, results, tmp_path, capsys):
    make, told = (MODELS | FUNCTIONS)[kind]
    out, model = tmp_path / "out", make(tmp_path)
    options = {
        "attack": ["--model", model, "--data=phantom", "--num-images=4", *FAST],
        "evaluate": ["--sources", model, "--data=phantom", "--attacks", "f", "fgsm"],
        "explain": [results, "--model", model, "--num-steps=1"],
        "export": ["--model", model, "--data=phantom", "--num-images=4"],
    }[command]
    err = failed(capsys, command, "--out", out, *options)
    another = "holds results of another model"  # of explain, for which any other model is wrong
    assert told in err or (command == "explain" and another in err)
    assert not finals(out)


def sealed(tmp_path):
    """A folder in which nobody may write."""
    if Path("/proc").is_dir():  # Linux: not even root may, who runs some tests
        return Path("/proc")
    path = tmp_path / "sealed"
    path.mkdir(mode=0o500)
    return path


@pytest.mark.parametrize("command", ["attack", "train", "export"])
@pytest.mark.parametrize("place", ["a file", "below a file", "where nobody may write"])
def test_an_output_that_cannot_be_written_is_named(command, place, model, tmp_path, capsys):
    file = tmp_path / "taken"
    file.write_text("mine")
    out = {
        "a file": file,
        "below a file": file / "out",
        "where nobody may write": sealed(tmp_path) / "out",
    }[place]
    options = {
        "attack": ["--model", model, "--num-images=4", *FAST],
        "train": ["--model=convnet", "--image-size=32", "--num-examples=8", "--batch-size=2"],
        "export": ["--model", model, "--num-images=4"],
    }[command]
    err = failed(capsys, command, "--data=phantom", "--out", out, *options)
    assert str(out) in err or str(file) in err
    assert file.read_text() == "mine"


RESULTS = {
    "missing": (lambda run: run / "nowhere", "nowhere"),
    "no results": (lambda run: run.parent, "holds no finished run"),
    "summary cut": (lambda run: cut(run / "summary.json"), "summary.json"),
    "a shard cut": (lambda run: cut(run / "shards" / "0000000.parquet"), "0000000.parquet"),
    "a shard gone": (lambda run: gone(run / "shards" / "0000000.parquet"), "shards"),
}


def test_an_attack_does_not_go_on_from_damaged_settings(model, results, tmp_path, capsys):
    run = shutil.copytree(results, tmp_path / "run")
    cut(run / "settings.json")
    err = failed(
        capsys, "attack", "--model", model, "--data=phantom", "--num-images=4", "--out", run, *FAST
    )
    assert "settings.json" in err


def cut(path):
    path.write_bytes(path.read_bytes()[:20])
    return path.parent if path.parent.name == "run" else path.parent.parent


def gone(path):
    path.unlink()
    return path.parent.parent


@pytest.mark.parametrize(
    ("command", "kind"),  # explain does not read the summary
    [pair for pair in pairs(["report", "explain"], RESULTS) if pair.id != "explain-summary cut"],
)
def test_bad_results_are_named(command, kind, model, results, tmp_path, capsys):
    run = shutil.copytree(results, tmp_path / "run")
    make, told = RESULTS[kind]
    options = {"report": [], "explain": ["--model", model, "--num-steps=1"]}[command]
    err = failed(capsys, command, make(run), *options)
    assert told in err
    assert not (run / "report.html").exists()
    assert not (run / "explain" / "summary.json").exists()


PHASES = {
    "reading": (commands, "ask"),
    "attacking": (runner, "attack_images"),
    "writing": (storage, "write_shard"),
    "merging": (cells, "merge"),
    "drawing": (gallery, "draw"),
}


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_in_each_phase_and_then_the_same_command(
    phase, model, results, tmp_path, capsys, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*PHASES[phase], interrupt)
    out = tmp_path / "out"
    command = ["attack", f"--model={model}", "--data=phantom", "--num-images=4", f"--out={out}"]
    assert cli.main([*command, *FAST, "--gallery=1"]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err
    assert not list(out.rglob("*.tmp"))
    assert phase == "drawing" or not (out / "summary.json").exists()
    monkeypatch.undo()
    assert cli.main([*command, *FAST, "--gallery=1"]) == 0
    whole, again = (
        json.loads((path / "summary.json").read_text())["targets"] for path in (results, out)
    )
    assert whole == again


def test_a_reader_that_goes_away_ends_the_command_quietly():
    program = "from bfjax import cli; import sys; sys.exit(cli.main())"
    command = [sys.executable, "-c", program, "attack", "--model=m", "--print-config"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_no_file_of_ours_is_for_one_user_only(results):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in finals(results)}
    assert set(modes.values()) == {0o644}, modes


@pytest.fixture
def full_disk(monkeypatch):
    """A limit on the size of files stands in for the disk; the system's own error comes back."""
    cache = jax.config.jax_compilation_cache_dir  # of all tests: half an entry would stay in it
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # nor half a .pyc
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)
    jax.config.update("jax_compilation_cache_dir", cache)
    compilation_cache.reset_cache()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["attack", "evaluate", "explain", "report", "export"])
def test_a_full_disk_is_one_line(command, model, results, tmp_path, capsys, full_disk):
    out = tmp_path / "out"
    options = {
        "attack": ["--model", model, "--data=phantom", "--num-images=4", *FAST],
        "evaluate": ["--sources", model, "--data=phantom", "--num-images=4", "--attacks", "f",
                     "fgsm"],
        "explain": [results, "--model", model, "--num-steps=1"],
        "report": [results],
        "export": ["--model", model, "--data=phantom", "--num-images=4"],
    }[command]  # fmt: skip
    where = out / "report.html" if command == "report" else out
    err = failed(capsys, command, *options, "--out", where)
    assert "File too large" in err
    assert str(out) in err
    whole = {path.name for path in finals(out)}
    assert not whole & {"summary.json", "config.json", "model.safetensors", "report.html"}


_FULL = """
import resource, signal, sys
from bfjax import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
sys.exit(cli.main(["train", "--model=convnet", "--data=phantom", "--image-size=32",
    "--num-examples=24", "--batch-size=8", "--epochs=1", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_full_disk_in_training_is_one_line_too(tmp_path):
    """In a process of its own: what Orbax began goes on in its threads after it has failed."""
    # -B: Python takes half a .pyc for a whole one, and whoever imports it next fails
    run = [sys.executable, "-B", "-W", "ignore", "-c", _FULL, str(tmp_path / "out")]
    own = os.environ.copy()
    own.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"cannot save {tmp_path / 'out' / 'training'}" in done.stderr
    assert "File too large" in done.stderr
    assert not (tmp_path / "out" / "config.json").exists()
