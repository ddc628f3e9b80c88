"""The network that a training run begins with: freshly drawn, or with the weights of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx

from bfjax import models


def initial_network(
    name: str,
    *,
    class_names: tuple[str, ...],
    channels: int,
    init: str | None,
    seed: int,
    **settings: Any,
) -> nnx.Module:
    """Builds a network, and loads the weights that were asked for.

    Args:
      name: of the architecture.
      class_names: of the images.
      channels: 1 (grey) or 3 (RGB).
      init: a checkpoint's folder, a file or `hf:owner/repository`; None for none.
      seed: of the weights that are drawn.
      **settings: of the architecture, before those that the checkpoint has.

    Returns:
      The network.

    Raises:
      ValueError: no such architecture or setting, or weights that do not fit.
      FileNotFoundError: there are no such weights.
    """
    if init is not None:
        settings = models.settings_for(name, init) | settings
    network = models.build(
        name, num_classes=len(class_names), channels=channels, seed=seed, **settings
    )
    if init is None:
        return network
    # the head of our own classes is kept; ImageNet's answers another question
    ours = Path(init).is_dir() and models.load_config(init).class_names == class_names
    return models.load_pretrained(network, init, head=ours)
