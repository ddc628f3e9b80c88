"""The network that a training run begins with: freshly drawn, or with the weights of another."""

from __future__ import annotations

import warnings
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


def warn_of_seen_patients(init: str | None, settings: dict[str, Any]) -> None:
    """Warns where a checkpoint to start from held out other patients, and may have learnt ours.

    Args:
      init: the checkpoint's folder; anything else tells nothing.
      settings: of the training.

    Warns:
      UserWarning: naming the options that differ.
    """
    if init is None or not (Path(init).expanduser() / models.CONFIG).is_file():
        return
    before = models.load_config(Path(init).expanduser()).extra.get("training", {})
    by = ("num_examples", "validation", "seed", "groups_sha256", "labels_sha256", "class_names")
    told = [name for name in by if before.get(name) != settings.get(name)]
    if told and before.get("data") == settings["data"]:
        options = ", ".join(f"--{name.removesuffix('_sha256').replace('_', '-')}" for name in told)
        warnings.warn(
            f"{init} was trained with another {options}: it may have learnt patients that are held "
            "out here, whose scores then say too much. Give the same to hold out the same",
            stacklevel=4,
        )
