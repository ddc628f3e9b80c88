import functools

import h5py
import numpy as np
import pytest

from bfjax import models
from bfjax.models import densenet
from bfjax.models.registry import weights_of
from tests.models.parity import (
    CLASSES,
    assert_equals_keras,
    assert_equals_torch,
    keras_network,
    randomize_torch,
    write_keras,
)

# Keras' variables, on NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@functools.cache
def torch_densenet():
    """DenseNet121 in plain PyTorch, under the names that torchvision and timm give its layers."""
    # torch is an oracle of the tests, which .ci/run installs; bfjax itself never needs it
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self, c_in):
            super().__init__()
            self.norm1, self.norm2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(128)
            self.conv1 = nn.Conv2d(c_in, 128, 1, bias=False)
            self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

        def forward(self, x):
            y = self.conv1(self.norm1(x).relu())
            return torch.cat([x, self.conv2(self.norm2(y).relu())], 1)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            layers = {
                "conv0": nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                "norm0": nn.BatchNorm2d(64),
                "relu0": nn.ReLU(),
                "pool0": nn.MaxPool2d(3, stride=2, padding=1),
            }
            c = 64
            for i, depth in enumerate((6, 12, 24, 16), start=1):
                block = {f"denselayer{n + 1}": Layer(c + 32 * n) for n in range(depth)}
                layers[f"denseblock{i}"] = nn.Sequential()
                for name, layer in block.items():
                    layers[f"denseblock{i}"].add_module(name, layer)
                c += 32 * depth
                if i < 4:
                    transition = nn.Sequential()
                    transition.add_module("norm", nn.BatchNorm2d(c))
                    transition.add_module("relu", nn.ReLU())
                    transition.add_module("conv", nn.Conv2d(c, c // 2, 1, bias=False))
                    transition.add_module("pool", nn.AvgPool2d(2, stride=2))
                    layers[f"transition{i}"] = transition
                    c //= 2
            layers["norm5"] = nn.BatchNorm2d(c)
            self.features = nn.Sequential()
            for name, layer in layers.items():
                self.features.add_module(name, layer)
            self.classifier = nn.Linear(c, CLASSES)

        def forward(self, x):
            return self.classifier(self.features(x).relu().mean((2, 3)))

    return randomize_torch(Network())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numbered.weights.h5", "named.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_equals_keras_through_the_real_files(tmp_path, name):
    import keras

    preprocess = keras.applications.densenet.preprocess_input
    network = keras_network("DenseNet121")
    assert_equals_keras(tmp_path / name, "densenet121", network, densenet.KERAS, preprocess)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz"])
def test_equals_torch_through_the_real_files(tmp_path, name):
    assert_equals_torch(tmp_path / name, "densenet121", torch_densenet())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_for_keras_2_have_slashes_in_their_layers_names(tmp_path):
    new = write_keras(keras_network("DenseNet121"), tmp_path / "named.h5")
    with h5py.File(new) as source, h5py.File(tmp_path / "old.h5", "w") as target:
        for layer, group in source["model_weights"].items():
            old = {"conv1_conv": "conv1/conv", "conv1_bn": "conv1/bn", "predictions": "fc1000"}
            old = old.get(layer, layer)
            for weight in group.get(layer, {}):
                target[f"{old}/{old}/{weight}:0"] = group[layer][weight][()]
    model = models.build("densenet121", num_classes=CLASSES, channels=3, **densenet.KERAS)
    expected = weights_of(models.load_pretrained(model, new))
    for name, array in weights_of(models.load_pretrained(model, tmp_path / "old.h5")).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
