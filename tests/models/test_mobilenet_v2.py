import functools

import numpy as np
import pytest

from bfjax import models
from bfjax.models import mobilenet_v2
from bfjax.models.registry import weights_of
from tests.models.parity import (
    CLASSES,
    assert_equals_keras,
    assert_equals_torch,
    keras_network,
    randomize_torch,
    write_torch,
)

# (expansion, channels, blocks, stride of the first)
STAGES = [
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
]

# Keras' variables, on NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@functools.cache
def torch_mobilenet():
    """MobileNet V2 in plain PyTorch, under the names that torchvision gives its layers."""
    # torch is an oracle of the tests, which .ci/run installs; bfjax itself never needs it
    nn = pytest.importorskip("torch").nn

    def activated(c_in, c_out, kernel, stride=1, groups=1):
        how = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
        convolution = nn.Conv2d(c_in, c_out, kernel, **how)
        return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU6())

    class Block(nn.Module):
        def __init__(self, c_in, c_out, expansion, stride):
            super().__init__()
            c = expansion * c_in
            layers = [activated(c_in, c, 1)] if expansion > 1 else []
            layers.append(activated(c, c, 3, stride, groups=c))
            project = [nn.Conv2d(c, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
            self.conv = nn.Sequential(*layers, *project)
            self.residual = stride == 1 and c_in == c_out

        def forward(self, x):
            return x + self.conv(x) if self.residual else self.conv(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            layers, c_in = [activated(3, 32, 3, 2)], 32
            for expansion, c_out, count, stride in STAGES:
                for i in range(count):
                    layers.append(Block(c_in, c_out, expansion, 1 if i else stride))
                    c_in = c_out
            self.features = nn.Sequential(*layers, activated(c_in, 1280, 1))
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, CLASSES))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    return randomize_torch(Network())


def timm_names():
    """torchvision's name of each layer, and timm's."""
    yield from (("features.0.0", "conv_stem"), ("features.0.1", "bn1"))
    flat = 1
    for stage, (expansion, _, count, _) in enumerate(STAGES):
        for block in range(count):
            old, new = f"features.{flat}.conv", f"blocks.{stage}.{block}"
            if expansion == 1:
                pairs = ["0.0 conv_dw", "0.1 bn1", "1 conv_pw", "2 bn2"]
            else:
                pairs = ["0.0 conv_pw", "0.1 bn1", "1.0 conv_dw", "1.1 bn2", "2 conv_pwl", "3 bn3"]
            yield from ((f"{old}.{o}", f"{new}.{n}") for o, n in map(str.split, pairs))
            flat += 1
    yield from ((f"features.{flat}.0", "conv_head"), (f"features.{flat}.1", "bn2"))
    yield "classifier.1", "classifier"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numbered.weights.h5", "named.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_equals_keras_through_the_real_files(tmp_path, name):
    import keras

    preprocess = keras.applications.mobilenet_v2.preprocess_input
    network = keras_network("MobileNetV2")
    assert_equals_keras(tmp_path / name, "mobilenet_v2", network, mobilenet_v2.KERAS, preprocess)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz"])
def test_equals_torch_through_the_real_files(tmp_path, name):
    assert_equals_torch(tmp_path / name, "mobilenet_v2", torch_mobilenet())


def test_timm_has_other_names_for_the_same_layers(tmp_path):
    state = torch_mobilenet().state_dict()
    renamed = {
        name.replace(old, new): tensor
        for old, new in timm_names()
        for name, tensor in state.items()
        if name.startswith(f"{old}.")
    }
    assert len(renamed) == len(state)
    np.savez(tmp_path / "timm.npz", **{name: t.numpy() for name, t in renamed.items()})
    model = models.build("mobilenet_v2", num_classes=CLASSES, channels=3)
    theirs = models.load_pretrained(model, tmp_path / "timm.npz")
    ours = models.load_pretrained(model, write_torch(torch_mobilenet(), tmp_path / "tv.npz"))
    expected = weights_of(ours)
    for name, array in weights_of(theirs).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
