"""PyTorch networks on the command line: `.pt2` files, and modules by their names."""

import hashlib
import json

import jax
import numpy as np
import pytest

import bfjax
from bfjax import cli, models
from bfjax.evaluation import targets
from tests.models.parity import draw_images, import_torch

torch = import_torch()
nn = torch.nn
SIDE = 32

MODULE = """
from torch import nn
import torch

torch.manual_seed(0)


def make(channels):
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 2)).eval()
    made[-1].weight.data *= 3  # and in doubt about grey
    made[-1].bias.data -= made(torch.full((1, channels, 32, 32), 0.3)).detach()[0]
    return made


net, rgb, learns = make(1), make(3), make(1).train()
counted = nn.Sequential(nn.Flatten(), nn.Linear(7, 2)).eval()
"""
FEW = ["--data=phantom", "--num-images=4", "--batch-size=2", "--no-measure", "--gallery=0",
       "--num-steps=3", "--grid-size=3", "--degree=3", "--l1-coefficients=0"]  # fmt: skip


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own, in the current folder, of a name that no other test has."""
    name = f"own_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def saved(path, *, seed=0):
    names: dict = {}
    exec(MODULE.replace("manual_seed(0)", f"manual_seed({seed})"), names)
    example = (torch.zeros(1, 1, SIDE, SIDE),)
    torch.export.save(torch.export.export(names["net"], example), path)
    return path


def attack(out, model, *arguments, command="attack"):
    return cli.main([command, *FEW, "--model", str(model), "--out", str(out), *arguments])


def one_line_of(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.slow
def test_a_pt2_file_is_attacked_gone_on_with_and_explained(tmp_path, capsys):
    path, out = saved(tmp_path / "net.pt2"), tmp_path / "out"
    scaled = ["--input-range", "0.1", "0.9", "--std", "1.5"]
    bound = ["--max-change=0.4", "--step-size=0.4"]
    assert attack(out, path, *scaled, *bound) == 0
    found = json.loads((out / "summary.json").read_text())
    known = found["settings"]["models"]["net"]
    assert known["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert known["architecture"] == "torch"
    assert found["settings"]["input_range"] == [0.1, 0.9]
    assert found["settings"]["std"] == [1.5]
    assert "mean" not in found["settings"]
    assert found["targets"]["net"]["fooled"] > 0
    capsys.readouterr()
    assert attack(out, path, *scaled, *bound) == 0
    assert "finished before, nothing was run" in capsys.readouterr().out
    maps = ["--num-steps=2", "--mask-size=4", "--num-points=2", "--num-images=1", "--gallery=0"]
    assert cli.main(["explain", str(out), "--model", str(path), *maps]) == 0
    capsys.readouterr()
    assert attack(out, path, "--input-range", "0.1", "0.9", *bound) == 1
    assert "other settings (std was [1.5], now it is None)" in one_line_of(capsys)
    saved(path, seed=1)
    assert attack(out, path, *scaled, *bound) == 1
    assert "holds results of another net: its sha256 was" in one_line_of(capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:all outputs of rgb:UserWarning")  # by chance
def test_a_module_is_attacked_by_its_name_and_judged_with_a_file(own, tmp_path, capsys):
    path = saved(tmp_path / "file.pt2")
    arguments = ["--image-size=32", "--targets", str(path), f"{own}:rgb"]
    assert attack(tmp_path / "out", f"{own}:net", *arguments) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["targets"]
    assert set(found) == {"net", "file", "rgb"}
    assert found["net"] == found["file"]  # the same weights
    file = tmp_path / f"{own}.py"
    file.write_text(file.read_text().replace("*= 3", "*= 4"))
    capsys.readouterr()
    assert attack(tmp_path / "out", f"{own}:net", *arguments) == 1
    assert "importlib.reload the module" in one_line_of(capsys)


@pytest.mark.parametrize("name", ["net", "rgb"])
def test_a_module_answers_as_torch_does(own, name):
    target = targets.load_target(f"{own}:{name}", image_size=SIDE)
    images = draw_images(2, SIDE, SIDE, 1)
    names: dict = {}
    exec(MODULE, names)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    expected = names[name](x.expand(-1, 3 if name == "rgb" else 1, -1, -1)).detach()
    found = jax.vmap(target.predict)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("net", None, "net is a PyTorch module: --image-size says the side of its images"),
        ("learns", SIDE, r"learns cannot be used: .* training mode.* call .*\.eval\(\)"),
        ("counted", SIDE, r"counted cannot be used: PyTorch cannot export .* \(3, 32, 32\)"),
        ("nothing", SIDE, "has no function nothing"),
    ],
)
def test_what_cannot_be_used_is_named(own, name, size, told):
    with pytest.raises(ValueError, match=told):
        targets.load_target(f"{own}:{name}", image_size=size)


@pytest.mark.slow
def test_an_attack_by_either_route_is_the_same():
    names: dict = {}
    exec(MODULE, names)
    images, labels = draw_images(3, SIDE, SIDE, 1), np.array([0, 1, 1])
    options = {"channels": 1, "image_size": SIDE, "input_range": "xrv", "mean": -300, "std": 2000}
    translated = models.from_torch(names["net"], **options)
    with pytest.warns(UserWarning, match="through a callback"):
        asked = models.from_torch(names["net"], **options, route="callback")
    options = {"degree": 3, "grid_size": 3, "num_steps": 5, "l1_coefficients": 0}
    attack = bfjax.attacks.bias_field((SIDE, SIDE), **options)
    one, two = (bfjax.run_batch(attack, p, images, labels) for p in (translated, asked))
    np.testing.assert_allclose(one.trace.loss, two.trace.loss, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one.adversarial, two.adversarial, atol=1e-4)
    assert (one.trace.loss[:, -1] > one.trace.loss[:, 0]).all()
