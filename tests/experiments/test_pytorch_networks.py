"""PyTorch's networks compared and timed, on small ones in place of the libraries'."""

import json

import numpy as np
import pytest

from experiments.benchmark.alternate import Timing
from experiments.pytorch_networks import __main__ as command
from experiments.pytorch_networks import checks, timing, zoo
from tests.models.parity import import_torch

SIDE = 16


def _built(*middle):
    from torch import nn

    ends = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
    return nn.Sequential(*ends, *middle, nn.Flatten(), nn.LazyLinear(zoo.CLASSES))


def _smooth():
    return _made(lambda nn: [nn.GELU(), nn.AvgPool2d(2)])


def _kinked():
    return _made(lambda nn: [nn.ReLU(), nn.MaxPool2d(2)])


def _random():
    from torch import nn

    class Noise(nn.Module):
        def forward(self, x):
            return x + nn.functional.dropout(x, training=True)

    return _made(lambda _: [Noise()])


def _made(middle):
    import torch

    module = _built(*middle(torch.nn)).eval()
    module(torch.zeros(1, 1, SIDE, SIDE))  # the lazy layer's shape
    return module


@pytest.fixture
def networks(monkeypatch):
    """Their library is "torch", or is not there."""
    import_torch()
    small = {"channels": 1, "side": SIDE}
    found = {
        "torch smooth": zoo.Network(_smooth, **small, smooth=True, input_range=(-1024, 1024)),
        "torch random": zoo.Network(_random, **small),
        "absent-library network": zoo.Network(_smooth, **small),
        "torch kinked": zoo.Network(_kinked, **small),
    }
    monkeypatch.setattr(zoo, "NETWORKS", found)
    return found


def _found(folder):
    return json.loads((folder / "pytorch_networks.json").read_text(encoding="utf-8"))["found"]


@pytest.mark.slow
def test_networks_are_compared_once_and_what_fails_is_said(networks, tmp_path, capsys):
    config = command.Config(out=tmp_path)
    command.main(config)
    found = _found(tmp_path)
    assert set(found) == {"torch smooth", "torch random", "torch kinked"}
    for name in ("torch smooth", "torch kinked"):
        parity = found[name]["parity"]
        assert parity["works"], parity
        assert 0 < parity["gradient"] < 1e-4
        assert 0 < parity["attack"] < 1e-3
        assert 0.05 < parity["largest_logit"] < 50
    assert "dropout" in found["torch random"]["parity"]["error"]
    text = (tmp_path / "pytorch_networks.md").read_text(encoding="utf-8")
    assert text.startswith("2 of 3 PyTorch networks with random weights work.")
    assert "absent-library network: left out" in capsys.readouterr().out
    command.main(config)
    assert "torch kinked" not in capsys.readouterr().out  # nothing was made again
    assert (tmp_path / "pytorch_networks.tex").exists()


@pytest.mark.parametrize("change", ["seed", "versions"])
def test_torch_networks_that_were_interrupted_go_on(change, networks, monkeypatch, tmp_path):
    asked = []

    def check(name, *, seed):
        if len(asked) == 1:
            asked.append("killed")
            raise KeyboardInterrupt
        asked.append(name)
        return dict.fromkeys(command.COLUMNS, 0.0) | {"works": True}

    monkeypatch.setattr(checks, "check", check)
    config = command.Config(networks=("torch smooth", "torch kinked"), out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        command.main(config)
    assert list(_found(tmp_path)) == ["torch smooth"]
    command.main(config)
    assert asked == ["torch smooth", "killed", "torch kinked"]
    if change == "seed":
        config = command.Config(networks=config.networks, seed=1, out=tmp_path)
    else:
        monkeypatch.setattr(command, "_versions", lambda library: {library: "0"})
    command.main(config)
    assert asked[3:] == ["torch smooth", "torch kinked"]


def test_a_network_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"--networks \('alexnet',\) names none of torchvision"):
        command.main(command.Config(networks=("alexnet",), out=tmp_path))


def test_all_libraries_have_their_networks():
    libraries = [name.split()[0] for name in zoo.NETWORKS]
    least = {"torchvision": 10, "timm": 5, "monai": 3, "torchxrayvision": 2, "transformers": 1}
    for library, count in least.items():
        assert libraries.count(library) >= count, library


def test_torch_weights_are_drawn_and_running_averages_fit_them(networks):
    import torch

    zero = torch.nn.BatchNorm2d(8)
    torch.nn.init.zeros_(zero.weight)  # as libraries start branches
    scale = torch.nn.Parameter(torch.full((8, 1, 1), 1e-6))
    for name, parameter in (("weight", zero.weight), ("layer_scale", scale)):
        zoo._draw(name, parameter.requires_grad_(False))
        assert 0.5 <= parameter.min() < parameter.max() <= 1.5
    one, same, other = (zoo.build("torch kinked", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    module = zoo.build("torch kinked", seed=0)
    images = torch.from_numpy(zoo.images("torch kinked", zoo.CALIBRATION, seed=0))
    normal = module[:2](zoo.tensor("torch kinked", images))
    spread = normal.std((0, 2, 3)) / module[1].weight
    assert torch.allclose(spread, torch.ones(8), atol=0.01)


def test_torch_that_is_wrong_is_told_from_ours(networks):
    """Differences of the loss say whose gradient is off."""
    module = zoo.build("torch smooth", seed=0).double()
    images = zoo.images("torch smooth", 2, seed=1).astype(np.float64)
    _, labels, right = checks._of_torch(module, "torch smooth", images)
    wrong = right + np.random.default_rng(0).normal(0, np.abs(right).max(), right.shape)
    for ours, theirs, share in ((right, wrong, 1), (wrong, right, 0)):
        found = checks._whose(module, "torch smooth", images, labels, ours, theirs)
        assert found == pytest.approx(share, abs=1e-3)


@pytest.mark.slow
def test_what_is_timed_of_torch_is_the_same_gradient(networks):
    options = {"network": "torch smooth", "batch": 2, "seed": 0}
    work, _ = timing.ours(**options)
    ours = np.asarray(work())
    for layout in ("eager", "channels_last"):
        work, facts = timing.theirs(**options, layout=layout)
        assert facts == {"folded": True}
        theirs = work().transpose(0, 2, 3, 1) * 2048  # of images in [0, 1]
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def test_torch_is_timed_at_its_best(networks, monkeypatch, tmp_path):
    asked = []

    def alternate(specs, *, repetitions):
        asked.append(specs)
        seconds = {"bfjax": [3.0, 2.0, 9.0], "eager": [4.0] * 3, "channels_last": [1.0, 2.5, 8.0]}
        found = {label: Timing(found, {}) for label, found in seconds.items()}
        return found, {"compile": "no compiler"}

    monkeypatch.setattr(timing, "alternate", alternate)
    monkeypatch.setattr(
        checks, "check", lambda name, *, seed: dict.fromkeys(command.COLUMNS, 0.0) | {"works": True}
    )
    command.main(command.Config(networks=("torch kinked",), time=True, out=tmp_path))
    speed = _found(tmp_path)["torch kinked"]["speed"]
    assert speed["best"] == "channels_last"
    assert speed["ratio"] == pytest.approx(3 / 2.5)
    assert speed["missing"] == {"compile": "no compiler"}
    assert all(spec["kept"] for spec in asked[0].values())
    text = (tmp_path / "pytorch_networks.md").read_text(encoding="utf-8")
    assert "| 3.000 | 2.500 (channels_last) | 1.20 |" in text
