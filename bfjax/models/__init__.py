"""Classifiers in Flax NNX: built by name, imported, saved, and loaded as a `Predict`."""

from bfjax.models.checkpoint import (
    CONFIG,
    Checkpoint,
    as_predict,
    freeze,
    load,
    load_config,
    load_model,
    save,
)
from bfjax.models.hub import PREFIX as HUB
from bfjax.models.layers import MIN_SIZE
from bfjax.models.onnx import load_onnx
from bfjax.models.pretrained import load_pretrained, settings_for
from bfjax.models.registry import ARCHITECTURES, build, check_weights, weights_of

__all__ = [
    "ARCHITECTURES",
    "CONFIG",
    "HUB",
    "MIN_SIZE",
    "Checkpoint",
    "as_predict",
    "build",
    "check_weights",
    "freeze",
    "load",
    "load_config",
    "load_model",
    "load_onnx",
    "load_pretrained",
    "save",
    "settings_for",
    "weights_of",
]
