"""What can be attacked: checkpoints, Python functions, ONNX files, and several as one."""

import hashlib
import json
import traceback

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


def network(path, *, channels=1, size=32, operator="Relu", after=None, opset=17):
    """A small ONNX classifier with random weights."""
    window = {"kernel_shape": [2, 2]} if after == "AveragePool" else {}
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(4, channels, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=4).astype(np.float32),
        "head": rng.normal(size=(4, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["c"], ["r"]),
        *([helper.make_node(after, ["r"], ["s"], name="later", **window)] if after else []),
        helper.make_node("GlobalAveragePool", ["s" if after else "r"], ["p"]),
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
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
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


@pytest.mark.parametrize("name", ["last.ckpt", "net.pt", "net.onnx"])
def test_a_checkpoint_may_be_called_like_the_file_of_another_library(tmp_path, name):
    target = targets.load_target(str(checkpoint(tmp_path / name)))
    assert (target.name, target.is_checkpoint) == (name, True)


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
    network(folder / "a.onnx", operator="HardSwish")
    return folder / "a.onnx"


def _several_unknown(folder):
    network(folder / "a.onnx", operator="Mish", after="HardSwish", opset=18)
    return folder / "a.onnx"


def _newer(folder):
    network(folder / "a.onnx", opset=21)
    return folder / "a.onnx"


def _without_gradient(folder):
    network(folder / "a.onnx", after="AveragePool")
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
        (
            _unknown,
            r"a\.onnx cannot be used: jaxonnxruntime has no HardSwish; a PyTorch network",
        ),
        (_several_unknown, r"has no HardSwish, Mish; .*bfjax\.models\.from_torch.*\.pt2 file"),
        (_newer, "has no Flatten of opset 21;"),
        (
            _without_gradient,
            r"a\.onnx has no gradient: that of its AveragePool \(later\) fails.*\.pt2",
        ),
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


def test_a_gradient_that_fails_without_a_word_is_named_too(tmp_path, monkeypatch):
    network(tmp_path / "a.onnx")
    made = []

    def fails(*_):
        raise AssertionError

    def convert(*_):
        if made:  # node by node
            raise RuntimeError("a node that cannot be alone")
        made.append(fails)
        return fails, {}

    monkeypatch.setattr("jaxonnxruntime.call_onnx.call_onnx_model", convert)
    told = r"a\.onnx has no gradient: that of its whole fails \(AssertionError\)"
    with pytest.raises(ValueError, match=told):
        targets.load_target(str(tmp_path / "a.onnx"))


BROKEN = """
import sys
import jax
import jax.numpy as jnp

def divides(image):
    return 1 / 0

def decides(image):
    if image.mean() > 0.5:
        return jnp.zeros(2)

def looks_up(image):
    return helper(image)

def helper(image):
    return {}["weights"]

def shapes(image):
    return image[:, :, 0] @ jnp.zeros(777)

def opens(image):
    open("/nowhere/weights")

def leaves(image):
    sys.exit(3)

def nothing(image):
    pass

def word(image):
    return "left"

def listed(image):
    return [image.mean(), image.mean()]

def scalar(image):
    return image.mean()

def batched(image):
    return image.mean((1, 2))[None]

def whole(image):
    return jnp.zeros(2, int)

@jax.custom_vjp
def odd(image):
    return 9 * jnp.stack([image[:16].mean(), image[16:].mean()])

def backward(_, cotangent):
    raise KeyError("backward")

odd.defvjp(lambda image: (odd(image), None), backward)

def loops(image):
    return jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, image[:2, 0, 0])

def calls(image):
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    return odd(image) + jax.lax.stop_gradient(
        jax.pure_callback(host, scalar, image, vmap_method="sequential")
    )

def shows(image):
    jax.debug.callback(host, image)
    return odd(image)

def host(image):
    raise OverflowError("on the host\\nand more")
"""

# what a function of the user's own does -> what is said of it, after its name
FAILURES = {
    "divides": "failed: ZeroDivisionError: division by zero ({file}:7)",
    "decides": "failed: TracerBoolConversionError: Attempted boolean conversion",
    "looks_up": "failed: KeyError: 'weights' ({file}:17)",
    "shapes": "failed: TypeError: dot_general requires",
    "opens": "failed: FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/weights'",
    "leaves": "failed: SystemExit: 3 ({file}:26)",
    "nothing": "must return logits, floats (classes,), got NoneType",
    "word": "must return logits, floats (classes,), got str",
    "listed": "must return logits, floats (classes,), got list",
    "scalar": "must return logits, floats (classes,), got float32[]",
    "batched": "must return logits, floats (classes,), got float32[1, 32]",
    "whole": "must return logits, floats (classes,), got int32[2]",
}


def one_line_of(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_users_function_does_wrong_is_one_line(name, module, tmp_path, capsys):
    file = tmp_path / f"{module}.py"
    file.write_text(BROKEN)
    assert run("--model", f"{module}:{name}", "--image-size", 32, "--out", tmp_path / "out") == 1
    told = FAILURES[name].format(file=file)
    err = one_line_of(capsys)
    assert err.startswith(f"bfjax: error: {module}:{name} {told}")
    assert ("must return" in told) or f"({file}:" in err


# what fails outside the function's own call
LATER = {
    "odd": "KeyError: 'backward' ({file}:51)",
    "loops": "ValueError: Reverse-mode differentiation does not work",
    "calls": "OverflowError: on the host ({file}:69)",
    "shows": "OverflowError: on the host ({file}:69)",
}


@pytest.mark.parametrize("name", LATER)
def test_what_fails_on_the_way_back_or_on_the_host_is_one_line_too(name, module, tmp_path, capfd):
    file = tmp_path / f"{module}.py"
    file.write_text(BROKEN)
    assert run("--model", f"{module}:{name}", "--image-size", 32, "--out", tmp_path / "out") == 1
    err = one_line_of(capfd)
    assert f"error: {module}:{name} failed: {LATER[name].format(file=file)}" in err
    assert f"({file}:" in err


def test_a_function_may_return_numpys(module, tmp_path):
    (tmp_path / f"{module}.py").write_text("import numpy\n\ndef f(x):\n    return -numpy.ones(2)\n")
    assert run("--model", f"{module}:f", "--image-size", 32, "--out", tmp_path / "out") == 0


def test_debug_shows_the_users_own_traceback(module, tmp_path):
    (tmp_path / f"{module}.py").write_text(BROKEN)
    command = ["--debug", "attack", "--model", f"{module}:divides", "--image-size=32"]
    with pytest.raises(ValueError, match="divides failed: ZeroDivisionError") as caught:
        cli.main([*command, "--data=phantom", "--num-images=2", f"--out={tmp_path / 'out'}"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert frames[-1].line == "return 1 / 0"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero ({file}:1)"),
        ("def f(:", "SyntaxError: invalid syntax ({file}:1)"),
        ("import sys\nsys.exit()", "SystemExit: ({file}:2)"),
        ("\nimport nothing_of_the_kind", "No module named 'nothing_of_the_kind' ({file}:2)"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two ({file}:1)"),
        # a SyntaxError, up to Python 3.11.3 a ValueError
        ("text = '\x00'", "Error: source code string cannot contain null bytes"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(text, told, module, tmp_path, capsys):
    file = tmp_path / f"{module}.py"
    file.write_text(text)
    assert run("--model", f"{module}:f", "--image-size", 32, "--out", tmp_path / "out") == 1
    err = one_line_of(capsys)
    assert err.startswith(f"bfjax: error: {module}:f cannot be imported: ")
    assert told.format(file=file) in err


def test_as_many_logits_as_classes(module, tmp_path, capsys):
    assert run("--model", f"{module}:three", "--image-size", 32, "--out", tmp_path / "out") == 1
    assert "three has 3 logits, the data 2 classes" in capsys.readouterr().err


def test_an_onnx_file_needs_its_package(tmp_path, monkeypatch):
    network(tmp_path / "net.onnx")
    monkeypatch.setitem(__import__("sys").modules, "jaxonnxruntime.call_onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'bfjax\[onnx\]'"):
        models.load_onnx(tmp_path / "net.onnx")
