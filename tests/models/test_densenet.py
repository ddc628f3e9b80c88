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
    write_keras,
)

# Keras' variables, on NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
    assert_equals_torch(tmp_path / name, "densenet121")


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
