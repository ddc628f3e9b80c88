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
    torch_network,
    write_torch,
)

# Keras' variables, on NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def timm_names():
    """torchvision's name of each layer, and timm's."""
    from experiments.benchmark.torch_networks import STAGES

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
    assert_equals_torch(tmp_path / name, "mobilenet_v2")


def test_timm_has_other_names_for_the_same_layers_of_torch(tmp_path):
    network = torch_network("mobilenet_v2")
    state = network.state_dict()
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
    ours = models.load_pretrained(model, write_torch(network, tmp_path / "tv.npz"))
    expected = weights_of(ours)
    for name, array in weights_of(theirs).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
