import functools

import pytest

from bfjax.models import resnet
from tests.models.parity import (
    CLASSES,
    assert_equals_keras,
    assert_equals_torch,
    keras_network,
    randomize_torch,
)

# Keras' variables, on NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@functools.cache
def torch_resnet():
    """ResNet50 in plain PyTorch, under the names that torchvision and timm give its layers."""
    # torch is an oracle of the tests, which .ci/run installs; bfjax itself never needs it
    nn = pytest.importorskip("torch").nn

    class Block(nn.Module):
        def __init__(self, c_in, c, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c, 1, bias=False)
            self.conv2 = nn.Conv2d(c, c, 3, stride=stride, padding=1, bias=False)
            self.conv3 = nn.Conv2d(c, 4 * c, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)
            self.bn3 = nn.BatchNorm2d(4 * c)
            self.downsample = None
            if c_in != 4 * c:
                strided = nn.Conv2d(c_in, 4 * c, 1, stride=stride, bias=False)
                self.downsample = nn.Sequential(strided, nn.BatchNorm2d(4 * c))

        def forward(self, x):
            y = self.bn1(self.conv1(x)).relu()
            y = self.bn2(self.conv2(y)).relu()
            y = self.bn3(self.conv3(y))
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            c_in = 64
            for i, (blocks, c) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
                stage = []
                for b in range(blocks):
                    stage.append(Block(c_in, c, 2 if i > 1 and b == 0 else 1))
                    c_in = 4 * c
                setattr(self, f"layer{i}", nn.Sequential(*stage))
            self.fc = nn.Linear(c_in, CLASSES)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    return randomize_torch(Network())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numbered.weights.h5", "named.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_equals_keras_through_the_real_files(tmp_path, name):
    import keras

    preprocess = keras.applications.resnet50.preprocess_input
    network = keras_network("ResNet50")
    assert_equals_keras(tmp_path / name, "resnet50", network, resnet.KERAS, preprocess)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz"])
def test_equals_torch_through_the_real_files(tmp_path, name):
    assert_equals_torch(tmp_path / name, "resnet50", torch_resnet())
