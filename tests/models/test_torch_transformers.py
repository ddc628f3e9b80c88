"""Hugging Face's image classifiers, whose outputs are objects, against PyTorch."""

import importlib
import os

import jax
import numpy as np
import pytest

from bfjax.models import from_torch
from tests.models.parity import draw_images, import_torch

SIDE = 32


def import_transformers():
    """An oracle like PyTorch, see `parity.import_torch`: CI installs it, and says so."""
    import_torch()
    if os.environ.get("BFJAX_REQUIRE_TORCH"):
        return importlib.import_module("transformers")
    # Right, for it hides nothing: .ci/run installs the library and demands it (the lines above).
    # Without it there is no classifier of Hugging Face to read, and no answer to compare.
    return pytest.importorskip("transformers", reason="a library that .ci/run installs and demands")


@pytest.mark.slow
def test_a_vision_transformer_answers_as_torch_does():
    transformers, torch = import_transformers(), import_torch()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.ViTConfig(
        image_size=SIDE, patch_size=8, num_channels=3, num_attention_heads=4, num_labels=3, **sizes
    )
    network = transformers.ViTForImageClassification(config).eval()
    predict = from_torch(network, channels=3, image_size=SIDE, mean=0.5, std=0.5)
    images = draw_images(2, SIDE, SIDE, 3)
    x = torch.from_numpy(2 * images.transpose(0, 3, 1, 2) - 1).requires_grad_()
    logits = network(x).logits
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    found = jax.vmap(jax.value_and_grad(lambda image: predict(image)[0]))(images)
    np.testing.assert_allclose(found[0], logits[:, 0].detach(), rtol=1e-4, atol=1e-5)
    expected = 2 * gradient.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found[1], expected, atol=1e-4 * np.abs(expected).max())
