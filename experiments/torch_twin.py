"""A checkpoint of a ResNet50 as torchvision's network, to audit what PyTorch users have.

    python -m experiments.torch_twin --model RESNET50 --out resnet50.pt2

torchvision's ResNet50 with the weights of a checkpoint, on grey images, which it repeats and
normalises. The file is what `torch.export.save` writes; its logits are compared with those of the
checkpoint. It needs torch and torchvision, as `python -m experiments.pytorch_networks --help` says.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import tyro

from bfjax import models, storage
from bfjax.models import Checkpoint

_PARTS = {"reduce": "1", "convolve": "2", "expand": "3"}
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A ResNet50 of bfjax as a file of PyTorch."""

    model: Path
    """Folder of the checkpoint."""
    out: Path = Path("resnet50.pt2")
    """The file."""


def main(config: Config) -> None:
    """Writes the file, and prints how far its logits are from the checkpoint's."""
    import torch

    record = models.load_config(config.model)
    if record.architecture != "resnet50" or record.config["strided"] != "3x3":
        raise ValueError(f"{config.model} is no ResNet50 of torchvision's kind")
    weights = safetensors.numpy.load_file(config.model / "model.safetensors")
    network = build(record, weights)
    side = record.image_size or 224
    images = np.random.default_rng(0).random((4, side, side, 1), np.float32)
    ours = np.asarray(jax.jit(jax.vmap(models.load(config.model)))(jnp.asarray(images)))
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = network(tensor).numpy()
    gap = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"largest difference of logits {gap:.1e} of the largest")
    if gap > 1e-4:
        raise ValueError(f"the logits differ by {gap:.1e} of the largest: nothing is written")
    batch = {"x": {0: torch.export.Dim("batch", max=1024)}}
    exported = torch.export.export(network, (tensor[:2],), dynamic_shapes=batch)
    with storage.replacing(config.out) as temporary, temporary.open("wb") as file:
        torch.export.save(exported, file)


def build(record: Checkpoint, weights: dict[str, np.ndarray]) -> Any:
    """A module of torchvision with our weights, in evaluation mode.

    Args:
      record: of the checkpoint.
      weights: its arrays by our names.

    Returns:
      A `torch.nn.Module` of (n, 1, h, w) in [0, 1].
    """
    import torch
    import torchvision

    class Network(torch.nn.Module):
        """Grey images, repeated and normalised."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = torchvision.models.resnet50(num_classes=record.config["num_classes"])
            for name in ("mean", "std"):
                values = torch.tensor(record.config[name]).reshape(1, 3, 1, 1)
                self.register_buffer(name, values)

        def forward(self, x: Any) -> Any:
            return self.inner((x.expand(-1, 3, -1, -1) - self.mean) / self.std)

    network = Network()
    arrays = {torch_name(name): torch.from_numpy(_turned(w)) for name, w in weights.items()}
    missing, unknown = network.inner.load_state_dict(arrays, strict=False)
    left = [name for name in missing if not name.endswith("num_batches_tracked")]
    if left or unknown:
        raise ValueError(f"weights that do not fit: {left[:3]} missing, {unknown[:3]} unknown")
    return network.eval()


def torch_name(name: str) -> str:
    """The name that torchvision has for one of our arrays.

    Args:
      name: ours.

    Returns:
      Theirs.

    Example:
      >>> torch_name("stages/0/1/convolve/norm/mean"), torch_name("stages/2/0/shortcut/kernel")
      ('layer1.1.bn2.running_mean', 'layer3.0.downsample.0.weight')
    """
    *path, last = name.split("/")
    norm = path[-1] == "norm"
    path = path[:-1] if norm else path
    leaf = _NORM[last] if norm else {"kernel": "weight"}.get(last, last)
    if path == ["head"]:
        return f"fc.{leaf}"
    if path == ["stem"]:
        return f"bn1.{leaf}" if norm else f"conv1.{leaf}"
    _, stage, block, part = path
    theirs = f"layer{int(stage) + 1}.{block}"
    if part == "shortcut":
        return f"{theirs}.downsample.{int(norm)}.{leaf}"
    return f"{theirs}.{'bn' if norm else 'conv'}{_PARTS[part]}.{leaf}"


def _turned(array: np.ndarray) -> np.ndarray:
    """HWIO to OIHW, and a dense kernel to (out, in)."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return np.ascontiguousarray(array.transpose(axes))


if __name__ == "__main__":
    main(tyro.cli(Config))
