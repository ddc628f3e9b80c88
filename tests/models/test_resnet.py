import pytest

from bfjax.models import resnet
from tests.models.parity import (
    assert_equals_keras,
    assert_equals_torch,
    keras_network,
)

# Keras' variables, on NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
    assert_equals_torch(tmp_path / name, "resnet50")
