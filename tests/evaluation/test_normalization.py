"""What models were trained on, as the command line is told it."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import cli
from bfjax.cli import options
from bfjax.evaluation import AttackConfig, targets
from tests.evaluation.test_attack import checkpoint
from tests.evaluation.test_targets import module, network, one_line_of, run  # noqa: F401


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ((0.0, 1.0), (), ())),
        (["--input-range", "0", "255"], ((0.0, 255.0), (), ())),
        (["--input-range", "-1024", "1024"], ((-1024.0, 1024.0), (), ())),
        (["--input-range", "xrv", "--mean", "0.5"], ("xrv", (0.5,), ())),
        (["--mean", "0.485", "0.456", "0.406", "--std", "1", "2", "3"],
         ((0.0, 1.0), (0.485, 0.456, 0.406), (1.0, 2.0, 3.0))),
    ],
)  # fmt: skip
def test_options_are_read_from_the_command_line_and_from_a_file(words, expected, tmp_path):
    chosen = options.parse(AttackConfig, ["--model", "m", *words], command="attack")
    assert (chosen.input_range, chosen.mean, chosen.std) == expected
    file = tmp_path / "options.toml"
    file.write_text(options.as_toml(chosen))
    assert options.parse(AttackConfig, [], command="attack", file=file) == chosen


def test_an_image_is_scaled_for_functions_and_files_alike(module, tmp_path):  # noqa: F811
    network(tmp_path / "net.onnx")
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(32, 32, 1)).astype(np.float32))
    scaled = {"input_range": [0, 255], "mean": [128], "std": [64]}
    for text in (f"{module}:darker", str(tmp_path / "net.onnx")):
        as_it_is = targets.load_target(text, image_size=32)
        target = targets.load_target(text, image_size=32, normalization=scaled)
        expected = as_it_is.predict((255 * image - 128) / 64)
        np.testing.assert_allclose(target.predict(image), expected, rtol=1e-4, atol=1e-4)


def test_probabilities_are_undone_of_what_the_scaled_image_gives(tmp_path, monkeypatch):
    text = "import jax\n\ndef f(x):\n    return jax.nn.softmax(x[0, :3, 0])\n"
    (tmp_path / "own_softmax.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    target = targets.load_target(
        "own_softmax:f", image_size=3, outputs="probabilities", normalization={"input_range": "xrv"}
    )
    image = jnp.asarray([[[0.5], [0.5005], [0.501]]])
    logits = target.predict(image)
    np.testing.assert_allclose(logits - logits[0], [0, 1.024, 2.048], rtol=1e-3)


def test_a_checkpoint_normalises_itself(tmp_path, capsys):
    model = checkpoint(tmp_path / "net")
    scaled = ["--input-range", "0", "255", "--mean", "0.5"]
    assert run("--model", model, *scaled, "--out", tmp_path / "out") == 1
    told = "--input-range, --mean: net is a checkpoint of bfjax, which normalises its images itself"
    assert told in one_line_of(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--input-range", "1", "1"], "input_range is [1.0, 1.0]"),
        (["--std", "0"], "std is [0.0], and must be positive"),
        (["--mean", "1", "2", "3", "--std", "1", "2"], "mean is of 3 channels, std of 2"),
    ],
)
def test_what_cannot_be_is_one_line(words, told, module, tmp_path, capsys):  # noqa: F811
    arguments = ["--model", f"{module}:darker", "--image-size=32", *words]
    assert run(*arguments, "--out", tmp_path / "out") == 1
    assert told in one_line_of(capsys)


@pytest.mark.slow
def test_a_run_is_gone_on_with_in_the_same_range_only(module, tmp_path, capsys):  # noqa: F811
    arguments = ["--model", f"{module}:darker", "--image-size=32", "--out", tmp_path / "out"]
    assert run(*arguments, "--input-range", "xrv") == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert found["input_range"] == "xrv"
    capsys.readouterr()
    assert run(*arguments) == 1
    assert "other settings (input_range was 'xrv', now it is None)" in one_line_of(capsys)
    assert cli.main(["report", str(tmp_path / "out")]) == 0
    assert "--input-range xrv" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("name", ["weights.pth", "last.ckpt", "pytorch_model.bin", "m.pth.tar"])
def test_pickles_are_one_line_with_the_way_out(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    assert run("--model", tmp_path / name, "--out", tmp_path / "out") == 1
    told = one_line_of(capsys)
    assert f"{name} is a pickle, which may run any code when it is read" in told
    assert (
        "torch.export.save(torch.export.export(net.eval(), (torch.zeros(1, 1, 224, 224),)" in told
    )
