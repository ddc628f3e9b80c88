"""Classifiers: five networks in Flax NNX, their checkpoints and imports, and ONNX files.

- `build` draws a network's weights, `load_pretrained` takes those of torchvision, timm, Keras,
  Google, or of a checkpoint.
- `save` writes a checkpoint; `load` reads one as a `Predict`, `load_model` as the module.
- `freeze` folds the batch norms into the convolutions; `as_predict` makes a `Predict` of a module.
- `from_torch` makes a `Predict` of a PyTorch network; `load_torch` reads one that
  `torch.export.save` wrote, `load_onnx` an ONNX file.
- `normalized` gives a classifier images in the range, or normalised as, it was trained on.
- `from_probabilities` gives the logits of a classifier that ends in a softmax or a sigmoid.

A classifier of your own needs none of this: any function of one image (h, w, c) in [0, 1] that
returns logits will do. README.md beside this file has examples for Flax, Equinox, Keras, ONNX and
PyTorch, and says where weights come from.

    >>> import jax, jax.numpy as jnp
    >>> from bfjax import models
    >>> predict = models.as_predict(models.build("convnet", num_classes=2))
    >>> jax.eval_shape(predict, jnp.zeros((32, 32, 1))).shape
    (2,)
"""

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
from bfjax.models.normalization import normalized
from bfjax.models.onnx import load_onnx, onnx_data
from bfjax.models.pretrained import load_pretrained, settings_for
from bfjax.models.probabilities import from_probabilities
from bfjax.models.registry import ARCHITECTURES, build, check_weights, weights_of
from bfjax.models.torch_export import from_torch
from bfjax.models.torch_files import is_torch_file, load_torch

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
    "from_probabilities",
    "from_torch",
    "is_torch_file",
    "load",
    "load_config",
    "load_model",
    "load_onnx",
    "load_pretrained",
    "load_torch",
    "normalized",
    "onnx_data",
    "save",
    "settings_for",
    "weights_of",
]
