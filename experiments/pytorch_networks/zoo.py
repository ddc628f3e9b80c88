"""Which networks are tried, and how they get weights without anything being downloaded.

Every weight is drawn: kernels and matrices by He's rule; scales, of norms and of layers, from 0.5
to 1.5, also those that libraries start at 0 or 1e-6, which would hide a branch; the rest about 0.
The running averages of batch norms are those of a few random images, so that activations are of
order one in every layer, as they are in a trained network.
"""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

CLASSES = 5
CALIBRATION = 8
"""Images that the running averages are of."""


class Network(NamedTuple):
    """One that is tried.

    Attributes:
      build: makes the module; its library is imported then.
      channels: that it takes.
      side: of its images.
      smooth: it has no kinks (ReLU, maximum, clipping), where gradients may jump.
      input_range: what it takes black and white to be.
    """

    build: Callable[[], Any]
    channels: int = 3
    side: int = 224
    smooth: bool = False
    input_range: tuple[float, float] = (0, 1)


def build(name: str, *, seed: int) -> Any:
    """A network with random weights, in evaluation mode.

    Args:
      name: in `NETWORKS`.
      seed: of its weights.

    Returns:
      A module that takes images (n, c, h, w) in its `input_range`.
    """
    import torch

    network = NETWORKS[name]
    torch.manual_seed(seed)
    module = network.build().eval().requires_grad_(False)
    for part in module.modules():
        for parameter_name, parameter in part.named_parameters(recurse=False):
            _draw(parameter_name, parameter)
    norms = [part for part in module.modules() if isinstance(part, _batch_norms())]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    if norms:
        module(tensor(name, torch.from_numpy(images(name, CALIBRATION, seed=seed))))
    return module.eval()


def images(name: str, count: int, *, seed: int) -> np.ndarray:
    """Smooth random patterns of different brightness, with noise.

    Args:
      name: of the network that they are for.
      count: how many.
      seed: of all of them.

    Returns:
      (count, h, w, c) in [0, 1].
    """
    _, channels, side, *_ = NETWORKS[name]
    draws = np.random.default_rng(seed)
    coarse = draws.uniform(size=(count, 7, 7, channels)) * draws.uniform(size=(count, 1, 1, 1))
    smooth = np.asarray(jax.image.resize(coarse, (count, side, side, channels), "linear"))
    noise = draws.uniform(size=smooth.shape)
    return (0.8 * smooth + 0.2 * noise).astype(np.float32)


def options(name: str) -> dict[str, Any]:
    """What `bfjax.models.from_torch` is told.

    Args:
      name: of the network.

    Returns:
      Keyword arguments.
    """
    _, channels, side, _, input_range = NETWORKS[name]
    return {"channels": channels, "image_size": side, "input_range": input_range}


def tensor(name: str, images: Any) -> Any:
    """Images as PyTorch's network takes them.

    Args:
      name: of the network.
      images: a tensor (n, h, w, c) in [0, 1].

    Returns:
      (n, c, h, w) in its `input_range`.
    """
    low, high = NETWORKS[name].input_range
    return images.permute(0, 3, 1, 2).contiguous() * (high - low) + low


def logits(module: Any, x: Any) -> Any:
    """What a network says, of whatever it returns.

    Args:
      module: the network.
      x: its input.

    Returns:
      (n, classes).
    """
    found = module(x)
    return getattr(found, "logits", found[0] if isinstance(found, tuple) else found)


def _batch_norms() -> type:
    return importlib.import_module("torch.nn.modules.batchnorm")._BatchNorm


def _draw(name: str, parameter: Any) -> None:
    start = parameter.flatten()[0].item()
    if parameter.ndim > 1 and name.endswith("weight"):
        parameter.normal_(0, math.sqrt(2 / parameter[0].numel()))
    elif name == "weight" or (start != 0 and (parameter == start).all()):
        parameter.uniform_(0.5, 1.5)
    else:
        parameter.normal_(0, 0.3)


def _made(module: str, function: str, *args: Any, **options: Any) -> Any:
    return getattr(importlib.import_module(module), function)(*args, **options)


def _torchvision(name: str, **options: Any) -> Callable[[], Any]:
    return partial(_made, "torchvision.models", name, num_classes=CLASSES, **options)


def _timm(name: str, **options: Any) -> Callable[[], Any]:
    return partial(_made, "timm", "create_model", name, num_classes=CLASSES, **options)


def _monai(name: str, **options: Any) -> Callable[[], Any]:
    return partial(_made, "monai.networks.nets", name, spatial_dims=2, **options)


def _transformers(name: str, **options: Any) -> Any:
    library = importlib.import_module("transformers")
    config = getattr(library, f"{name}Config")(num_labels=CLASSES, **options)
    return getattr(library, f"{name}ForImageClassification")(config)


def _torchxrayvision(name: str, weights: str) -> Any:
    """Its constructors load published weights: here a file of that name that holds random ones.

    So all that they do beside the network is done too: the resizing and the check of the range,
    which runs at the first image only. `op_threshs` is removed, as the library advises for
    gradients: it makes probabilities of the logits.
    """
    import torch
    import torchvision
    from torchxrayvision import models

    if name == "DenseNet":
        saved: Any = models.DenseNet(weights=None)
    else:
        saved = torchvision.models.resnet50(weights=None, num_classes=18)
        saved.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        saved = saved.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(saved, Path(folder) / Path(models.model_urls[weights]["weights_url"]).name)
        module = getattr(models, name)(weights=weights, cache_dir=folder)
    module.op_threshs = None
    return module


_SMALL = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
_XRAYS: dict[str, Any] = {"channels": 1, "input_range": (-1024, 1024)}
NETWORKS: dict[str, Network] = {
    "torchvision resnet50": Network(_torchvision("resnet50")),
    "torchvision densenet121": Network(_torchvision("densenet121")),
    "torchvision mobilenet_v2": Network(_torchvision("mobilenet_v2")),
    "torchvision efficientnet_b0": Network(_torchvision("efficientnet_b0"), smooth=True),
    "torchvision mobilenet_v3_large": Network(_torchvision("mobilenet_v3_large")),
    "torchvision vgg11_bn": Network(_torchvision("vgg11_bn")),
    "torchvision inception_v3": Network(_torchvision("inception_v3", init_weights=False), side=299),
    "torchvision regnet_y_400mf": Network(_torchvision("regnet_y_400mf")),
    "torchvision shufflenet_v2_x1_0": Network(_torchvision("shufflenet_v2_x1_0")),
    "torchvision convnext_tiny": Network(_torchvision("convnext_tiny"), smooth=True),
    "torchvision swin_t": Network(_torchvision("swin_t"), smooth=True),
    "torchvision vit_b_32": Network(_torchvision("vit_b_32"), smooth=True),
    "timm vit_tiny_patch16_224": Network(_timm("vit_tiny_patch16_224"), smooth=True),
    "timm convnextv2_atto": Network(_timm("convnextv2_atto"), smooth=True),
    "timm mobilevit_xxs": Network(_timm("mobilevit_xxs"), side=256, smooth=True),
    "timm eca_nfnet_l0": Network(_timm("eca_nfnet_l0"), smooth=True),
    "timm hrnet_w18_small": Network(_timm("hrnet_w18_small")),
    "timm pvt_v2_b0": Network(_timm("pvt_v2_b0"), smooth=True),
    "timm xcit_nano_12_p16_224": Network(_timm("xcit_nano_12_p16_224"), smooth=True),
    "timm mobilenetv4_conv_small": Network(_timm("mobilenetv4_conv_small")),
    "monai DenseNet121": Network(
        _monai("DenseNet121", in_channels=1, out_channels=CLASSES), channels=1
    ),
    "monai EfficientNetBN b0": Network(
        _monai(
            "EfficientNetBN",
            model_name="efficientnet-b0",
            in_channels=1,
            num_classes=CLASSES,
            pretrained=False,
        ),
        channels=1,
        smooth=True,
    ),
    "monai SEResNet50": Network(_monai("SEResNet50", in_channels=3, num_classes=CLASSES)),
    "monai ViT": Network(
        _monai(
            "ViT",
            in_channels=1,
            img_size=224,
            patch_size=16,
            hidden_size=192,
            num_heads=3,
            mlp_dim=768,
            classification=True,
            num_classes=CLASSES,
        ),
        channels=1,
        smooth=True,
    ),
    "torchxrayvision DenseNet": Network(
        partial(_torchxrayvision, "DenseNet", "densenet121-res224-all"), **_XRAYS
    ),
    "torchxrayvision ResNet": Network(
        partial(_torchxrayvision, "ResNet", "resnet50-res512-all"), side=512, **_XRAYS
    ),
    "transformers ViT": Network(partial(_transformers, "ViT", **_SMALL), smooth=True),
    "transformers ConvNext": Network(partial(_transformers, "ConvNext"), smooth=True),
}
