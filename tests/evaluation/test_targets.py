"""What can be attacked: checkpoints, Python functions, ONNX files, and several as one."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bfjax import cli, models
from bfjax.evaluation import targets
from tests.evaluation.test_attack import checkpoint

MODULE = """
import jax.numpy as jnp

def darker(image):
    return 9 * jnp.stack([image[:16].mean(), image[16:].mean()])

def sign(image):
    return 9 * (image[:16].mean() - image[16:].mean())[None]

def three(image):
    return -jnp.ones(3)

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's own, in the current folder."""
    name = f"own_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def network(path, *, channels=1, size=32, operator="Relu"):
    """A small ONNX classifier with random weights."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(4, channels, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=4).astype(np.float32),
        "head": rng.normal(size=(4, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "head"], ["y"]),
    ]
    shape = ["batch", channels, size, size]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, str(path))
    return model


def run(*arguments):
    options = ["--data", "phantom", "--num-images", "4", "--batch-size", "2", "--no-measure"]
    return cli.main(["attack", *options, "--gallery", "0", *map(str, arguments)])


@pytest.mark.slow
def test_a_function_of_the_users_own_is_attacked(module, tmp_path):
    assert run("--model", f"{module}:darker", "--image-size", 32, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["settings"]["image_size"] == 32
    digest = hashlib.sha256(MODULE.encode()).hexdigest()
    assert found["settings"]["models"]["darker"]["sha256"] == digest
    assert found["images"] == 4


@pytest.mark.slow
def test_functions_and_checkpoints_judge_each_other(module, tmp_path):
    folder = checkpoint(tmp_path / "net")
    arguments = ["--targets", f"{module}:sign", folder, "--image-size", 32]
    assert run("--model", f"{module}:darker", *arguments, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["targets"]
    # one logit says by its sign what two say by the larger
    counts = [
        {key: found[name][key] for key in ("fooled", "correct")} for name in ("darker", "sign")
    ]
    assert set(found) == {"darker", "sign", "net"}
    assert counts[0]["correct"] + counts[1]["correct"] == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_an_onnx_file_answers_as_onnx_says(tmp_path, channels):
    model = network(tmp_path / "net.onnx", channels=channels)
    target = targets.load_target(str(tmp_path / "net.onnx"))
    assert (target.name, target.config.image_size) == ("net", 32)
    image = np.random.default_rng(1).uniform(size=(32, 32, 1)).astype(np.float32)
    batch = np.repeat(image.transpose(2, 0, 1)[None], channels, axis=1)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": batch})
    np.testing.assert_allclose(target.predict(jnp.asarray(image)), expected[0], rtol=1e-4)
    batched = jax.jit(jax.vmap(target.predict))(jnp.stack([image, 1 - image]))
    np.testing.assert_allclose(batched[0], expected[0], rtol=1e-4)


@pytest.mark.slow
def test_an_onnx_file_is_attacked_with_its_gradients(tmp_path):
    network(tmp_path / "net.onnx")
    assert run("--model", tmp_path / "net.onnx", "--out", tmp_path / "out") == 0
    target = targets.load_target(str(tmp_path / "net.onnx"))
    image = jnp.full((32, 32, 1), 0.5).at[8, 8].set(0.9)

    def loss(x):
        return target.predict(x)[0]

    along = jnp.zeros_like(image).at[8, 8].set(1e-2)
    finite = (loss(image + along) - loss(image - along)) / 2e-2
    assert float(jax.grad(loss)(image)[8, 8, 0]) == pytest.approx(float(finite), rel=1e-2)


def _unknown(folder):
    network(folder / "a.onnx", operator="Mish")
    return folder / "a.onnx"


def _text(folder):
    (folder / "a.onnx").write_text("Dear radiologist,")
    return folder / "a.onnx"


def _deep(folder):
    network(folder / "a.onnx", channels=7)
    return folder / "a.onnx"


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (_unknown, r"a\.onnx cannot be used"),
        (_text, r"a\.onnx cannot be used"),
        (_deep, "1 or 3"),
        (lambda folder: folder / "none.onnx", r"none\.onnx does not exist"),
        (lambda folder: "nowhere_at_all:f", "nowhere_at_all:f cannot be imported"),
        (lambda folder: "json:nothing", "json has no function nothing"),
        (lambda folder: "math:pi", "math has no function pi"),
    ],
)
def test_what_cannot_be_loaded_is_named(tmp_path, make, word):
    with pytest.raises((ValueError, FileNotFoundError), match=word):
        targets.load_target(str(make(tmp_path)))


def test_as_many_logits_as_classes(module, tmp_path, capsys):
    assert run("--model", f"{module}:three", "--image-size", 32, "--out", tmp_path / "out") == 1
    assert "three has 3 logits, the data 2 classes" in capsys.readouterr().err


def test_an_onnx_file_needs_its_package(tmp_path, monkeypatch):
    network(tmp_path / "net.onnx")
    monkeypatch.setitem(__import__("sys").modules, "jaxonnxruntime.call_onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'bfjax\[onnx\]'"):
        models.load_onnx(tmp_path / "net.onnx")
