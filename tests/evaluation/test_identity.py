"""Results are gone on with, or read again, only with the images and models that they are of."""

import csv
import importlib
import json
import shutil
import sys

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from bfjax import cli, models
from bfjax.evaluation import identity, native, runner, targets
from tests.evaluation.test_attack import SIZE, checkpoint
from tests.evaluation.test_targets import network

CLASSES = ("NORMAL", "PNEUMONIA")
FIELD = ("--degree", 3, "--min-degree", 0, "--grid-size", 3, "--num-steps", 2, "--no-measure")
# the functions here are no classifiers of these images
pytestmark = pytest.mark.filterwarnings("ignore:predict is right about:UserWarning")


@pytest.fixture
def images(tmp_path):
    """Four pictures of each class."""
    rng = np.random.default_rng(0)
    for label in CLASSES:
        for i in range(4):
            path = tmp_path / "images" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(60, 200, (SIZE, SIZE), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path / "images"


@pytest.fixture
def model(tmp_path):
    return checkpoint(tmp_path / "net")


def run(model, images, out, *more, command="attack"):
    where = ("--data", images, "--split", "all", "--batch-size", 4, "--out", out)
    field = (*FIELD, "--gallery", 0) if command == "attack" else ("--no-measure",)
    named = ("--model" if command == "attack" else "--sources", model)
    return cli.main([command, *map(str, (*named, *where, *field, *more))])


def refused(capsys, *arguments, **options):
    """The one line that says why."""
    capsys.readouterr()
    assert run(*arguments, **options) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "finished before" not in captured.out
    assert line.startswith("bfjax: error: ")
    return line


def interrupt(out):
    """As a run that was killed after its first shard."""
    for path in ("summary.json", "records.csv", "shards/0000004.parquet"):
        (out / path).unlink()


def files(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def rename(images):
    (images / "NORMAL/0.png").rename(images / "NORMAL/9.png")
    return "NORMAL/0.png is now NORMAL/9.png"


def move(images):
    (images / "NORMAL/0.png").rename(images / "PNEUMONIA/9.png")
    return "NORMAL/0.png is now PNEUMONIA/9.png"


def alter(images):
    shutil.copyfile(images / "NORMAL/1.png", images / "PNEUMONIA/3.png")
    return "PNEUMONIA/3.png has other contents"


def add(images):
    shutil.copyfile(images / "NORMAL/1.png", images / "NORMAL/01.png")
    return "8 then, 9 now; NORMAL/01.png is new"


def remove(images):
    (images / "NORMAL/2.png").unlink()
    return "8 then, 7 now; NORMAL/2.png is gone"


@pytest.mark.slow
@pytest.mark.parametrize("change", [rename, move, alter, add, remove])
@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_other_images_are_refused_by_name(images, model, tmp_path, capsys, change, state):
    out = tmp_path / "out"
    assert run(model, images, out) == 0
    if state == "interrupted":
        interrupt(out)
    shutil.copytree(images, tmp_path / "kept")
    before, told = files(out), change(images)
    other = checkpoint(tmp_path / "other", seed=2)
    for more in ((), ("--native",), ("--targets", other), ("--gallery", 2)):
        line = refused(capsys, model, images, out, *more)
        assert f"{out} holds results of other images: {told}; bring those back" in line
        assert "choose another --out" in line
    assert files(out) == before
    shutil.rmtree(images)
    shutil.copytree(tmp_path / "kept", images)  # other times, the same images
    assert run(model, images, out) == 0
    with (out / "records.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == [
            f"{label}/{i}.png" for label in CLASSES for i in range(4)
        ]


@pytest.mark.slow
def test_a_finished_result_says_so_and_nothing_is_run(images, model, tmp_path, capsys, monkeypatch):
    out, said = tmp_path / "out", "finished before, nothing was run"
    assert run(model, images, out, "--native", "--gallery", 2) == 0
    assert said not in capsys.readouterr().out
    before = files(out)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_batch", None)
        patch.setattr(native, "_write_one", None)
        assert run(model, images, out, "--native", "--gallery", 2) == 0
    assert f"{out}: {said}" in capsys.readouterr().out
    assert files(out) == before
    next((out / "gallery").iterdir()).unlink()
    assert run(model, images, out, "--native", "--gallery", 2) == 0  # drawn again
    assert said not in capsys.readouterr().out
    assert files(out).keys() == before.keys()


@pytest.mark.slow
def test_cells_are_refused_one_by_one_and_may_be_joined_by_others(images, model, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = {"command": "evaluate"}
    assert run(model, images, out, "--attacks", "a", "fgsm", **arguments) == 0
    assert run(model, images, out, "--attacks", "a", "fgsm", **arguments) == 0
    assert f"{out}: finished before, nothing was run" in capsys.readouterr().out
    assert run(model, images, out, "--attacks", "a", "fgsm", "b", "fgsm", **arguments) == 0
    assert "finished before" not in capsys.readouterr().out
    told = alter(images)
    line = refused(capsys, model, images, out, "--attacks", "a", "fgsm", **arguments)
    assert f"{out / 'a' / 'net'} holds results of other images: {told}" in line


@pytest.mark.slow
def test_maps_and_pages_are_of_the_images_that_were_attacked(images, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, images, out, "--num-steps", 6, "--max-change", 0.4) == 0
    maps = ["explain", out, "--model", model, "--num-steps", 2, "--mask-size", 4]
    maps = [*map(str, maps), "--num-points", "3", "--gallery", "0"]
    assert cli.main(maps) == 0
    assert cli.main(maps) == 0
    assert f"{out / 'explain'}: finished before, nothing was run" in capsys.readouterr().out
    for picture in images.rglob("*.png"):  # the same to the eye and to the mean change
        Image.open(picture).save(picture, compress_level=0)
    for arguments in (maps, ["report", str(out)]):
        assert cli.main(arguments) == 1
        assert ".png of FolderSource" in (line := capsys.readouterr().err)
        assert "is not the image that was attacked: it has other contents" in line


def test_what_nothing_tells_of_is_not_gone_on_with(images, model, tmp_path, capsys):
    (tmp_path / "out" / "shards").mkdir(parents=True)
    (tmp_path / "out" / "shards" / "0000000.parquet").write_bytes(b"PAR1")
    line = refused(capsys, model, images, tmp_path / "out")
    assert f"{tmp_path / 'out' / 'shards'} is there, and nothing says what it is of" in line


@pytest.mark.slow
def test_native_images_of_another_attack_are_refused(images, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, images, out, "--native") == 0
    kept = tmp_path / "kept"
    shutil.copytree(out / "adversarial", kept)
    shutil.rmtree(out)
    assert run(model, images, out, "--seed", 1, "--start-noise", 0.1) == 0
    shutil.copytree(kept, out / "adversarial")
    line = refused(capsys, model, images, out, "--seed", 1, "--start-noise", 0.1, "--native")
    assert f"{out / 'adversarial'} is there, and nothing says what it is of: delete it" in line


@pytest.mark.slow
def test_native_images_are_judged_by_models_that_come_later(images, model, tmp_path):
    out, other = tmp_path / "out", checkpoint(tmp_path / "other", seed=2)
    assert run(model, images, out, "--native") == 0
    assert run(model, images, out, "--native", "--targets", other) == 0
    assert set(json.loads((out / "native.json").read_text())["targets"]) == {"net", "other"}


@pytest.mark.slow
def test_a_model_that_was_interrupted_judging_and_then_changed_is_refused(
    images, model, tmp_path, capsys, monkeypatch
):
    out, other = tmp_path / "out", checkpoint(tmp_path / "other", seed=2)
    assert run(model, images, out) == 0

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        add_columns = runner.storage.add_columns
        patch.setattr(runner.storage, "add_columns", lambda *a: (add_columns(*a), stop()))
        assert run(model, images, out, "--targets", other) == 130
    checkpoint(tmp_path / "other", seed=3)
    line = refused(capsys, model, images, out, "--targets", other)
    assert f"{out} holds results of another other: its sha256 was" in line
    assert run(model, images, out) == 0  # without it


def test_settings_beside_the_weights_are_part_of_a_checkpoint(images, model, tmp_path, capsys):
    assert run(model, images, tmp_path / "out") == 0
    config = json.loads((model / models.CONFIG).read_text())
    config["resize"] = "pad"
    (model / models.CONFIG).write_text(json.dumps(config))
    line = refused(capsys, model, images, tmp_path / "out")
    assert "resize was 'squash', now it is 'pad'" in line
    one, other = (targets.load_target(str(m)) for m in (model, checkpoint(tmp_path / "n", seed=0)))
    assert one.config.sha256 == other.config.sha256
    known = [identity.of_target(t, (SIZE, SIZE, 1)) for t in (one, other)]
    with pytest.raises(ValueError, match=r"config\.json changed since"):
        identity.same_model("net", *known, tmp_path)


MODULE = """
import json
from pathlib import Path

import numpy as np

from {package}.inner import GAIN
from {package} import deeper

WEIGHT = np.load(Path(__file__).with_name("weight.npy"))

def predict(image):
    from {package} import late
    half = image.shape[0] // 2
    z = GAIN * WEIGHT * deeper.half * (image[:half].mean() - image[half:].mean())
    return late.signed(z)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A model of the user's own: modules that import each other, and weights in a file."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "model.py").write_text(MODULE.format(package="own"))
    (folder / "inner.py").write_text("from .deepest import *\n")
    (folder / "deepest.py").write_text("GAIN = 18.0\n")
    (folder / "deeper.py").write_text("half = 0.5\n")
    (folder / "late.py").write_text(
        "import jax.numpy as jnp\n\ndef signed(z):\n    return jnp.stack([z, -z])\n"
    )
    np.save(folder / "weight.npy", np.float32(1.0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m bfjax` has it
    forget()
    yield folder
    forget()


def forget():
    """As in another process, which imports everything anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "own"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def comment(name):
    def change(folder):
        path = folder / f"{name}.py"
        path.write_text(path.read_text() + "# a longer text, so that it is compiled anew\n")
        return f"module own.{name} changed since"

    return change


def weights(folder):
    np.save(folder / "weight.npy", np.float32(1.01))
    return "its program is the same, but not its answers to fixed images"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [*(comment(n) for n in ("model", "inner", "deepest", "deeper", "late", "__init__")), weights],
)
def test_a_python_model_is_all_of_its_modules_and_its_weights(
    images, package, tmp_path, capsys, change
):
    arguments = ("own.model:predict", images, tmp_path / "out", "--image-size", SIZE)
    assert run(*arguments) == 0
    forget()
    assert run(*arguments) == 0
    assert "finished before" in capsys.readouterr().out
    told = change(package)
    told = told.replace("own.__init__", "own")
    forget()
    assert f"holds results of another predict: {told}" in refused(capsys, *arguments)


@pytest.mark.slow
def test_a_notebook_runs_a_module_as_it_is_or_not_at_all(images, package, tmp_path, capsys):
    arguments = ("own.model:predict", images)
    assert run(*arguments, tmp_path / "one", "--image-size", SIZE) == 0
    (package / "late.py").write_text(
        # of another length: Python takes a file of the same second and size for the same
        "import jax.numpy as jnp\n\ndef signed(z):\n    return jnp.stack([-z, +z])\n"
    )
    told = refused(capsys, *arguments, tmp_path / "two", "--image-size", SIZE)
    assert f"{package / 'late.py'} changed since it was imported here" in told
    importlib.reload(sys.modules["own.late"])
    assert run(*arguments, tmp_path / "two", "--image-size", SIZE) == 0
    one, two = (json.loads((tmp_path / n / "settings.json").read_text()) for n in ("one", "two"))
    answers = [np.array(s["models"]["predict"]["answers"]) for s in (one, two)]
    np.testing.assert_allclose(answers[0], -answers[1])  # no trace of before is used again
    assert len(answers[0]) == 5
    np.save(package / "weight.npy", np.float32(np.nan))
    importlib.reload(sys.modules["own.model"])
    told = refused(capsys, *arguments, tmp_path / "three", "--image-size", SIZE)
    assert "predict gives NaN or infinite logits of the first image" in told


@pytest.mark.parametrize(
    "line",
    [
        "import_module('.late', 'own')",
        "import_module('own.late')",
        "import_module(f'own.{NAME}')",
    ],
)
def test_what_is_imported_by_its_name_is_found(package, line):
    (package / "model.py").write_text(
        f"from importlib import import_module\nNAME = 'late'\nused = {line}\n"
    )
    importlib.import_module("own.model")
    assert "own.late" in identity._sources("own.model")


def test_the_users_own_modules_are_found_and_no_others():
    """The package manager's, Python's and bfjax' own are left out."""
    importlib.import_module("tests.attack.test_search")
    assert identity._sources("tests.networks").keys() == {"tests", "tests.networks"}
    found = identity._sources("tests.attack.test_search")
    assert {"tests.networks", "tests.attack"} <= found.keys()
    assert all(name.split(".")[0] == "tests" for name in found)


def test_answers_are_compared_with_room_for_other_devices(tmp_path):
    now = {"sha256": "0", "parts": {}, "answers": [[3.0, -40.0], [0.02, None]]}

    def told(answers):
        identity.same_model("f", now | {"answers": answers}, now, tmp_path)

    told([[3.0001, -40.001], [0.0201, None]])
    told([[3.0, -40.0], [0.02, None], [7.0, 7.0]])
    for other in ([[3.1, -40.0], [0.02, None]], [[3.0, -40.0], [0.02, 1.0]], [[3.0], [0.02]]):
        with pytest.raises(ValueError, match="not its answers to fixed images"):
            told(other)
    with pytest.raises(ValueError, match="sha256 was 1, now it is 0"):
        identity.same_model("f", {"sha256": "1"}, now, tmp_path)
    identity.same_model("f", {"sha256": "0"}, now, tmp_path)  # an older result says no more


def test_the_fixed_images_are_images_that_excite():
    found = identity.probes((24, 20, 3))
    assert found.shape == (4, 24, 20, 3)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_array_equal(255 * found, np.rint(255 * found))
    assert all(image.std() > 0.05 for image in found)


@pytest.fixture
def external(tmp_path):
    """An ONNX file whose weights lie beside it."""
    whole = network(tmp_path / "whole.onnx", size=SIZE)
    onnx.save(whole, tmp_path / "x.onnx", save_as_external_data=True, location="x.onnx.data",
              size_threshold=0)  # fmt: skip
    return tmp_path / "x.onnx"


@pytest.mark.slow
def test_the_external_weights_of_an_onnx_file_are_part_of_it(images, external, tmp_path, capsys):
    assert run(external, images, tmp_path / "out") == 0
    data = external.with_name("x.onnx.data")
    data.write_bytes((np.frombuffer(data.read_bytes(), np.float32) * 1.5).tobytes())
    line = refused(capsys, external, images, tmp_path / "out")
    assert "holds results of another x: x.onnx.data changed since" in line


def test_external_weights_are_found_wherever_they_are(external):
    """In a node's attribute and in the branch of another node, too."""
    model = onnx.load(external, load_external_data=False)

    def tensor(location):
        made = onnx.TensorProto(name=location, data_type=1, dims=[1])
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="location", value=location)
        return made

    constant = helper.make_node("Constant", [], ["c"], value=tensor("one.bin"))
    inner = helper.make_node("Constant", [], ["d"], value=tensor("two.bin"))
    branch = helper.make_graph([inner], "then", [], [], [tensor("three.bin")])
    both = helper.make_node("If", ["c"], ["e"], then_branch=branch, else_branch=branch)
    model.graph.node.extend([constant, both])
    external.write_bytes(model.SerializeToString())
    names = [path.name for path in models.onnx_data(external)]
    assert names == ["one.bin", "three.bin", "two.bin", "x.onnx.data"]


def test_several_as_one_are_told_by_each(external, model, package):
    target = targets.load_target(f"{model}+{model.parent / 'x.onnx'}", image_size=SIZE)
    assert target.parts.keys() == {"net: config.json", "x: x.onnx.data"}
    target = targets.load_target(f"{model}+own.model:predict", image_size=SIZE)
    known = identity.of_target(target, (SIZE, SIZE, 1))
    assert {"net: config.json", "module own.model", "module own.late"} <= known["parts"].keys()
    assert np.isfinite(np.array(known["answers"])).all()
    assert np.shape(known["answers"]) == (4, 2)
