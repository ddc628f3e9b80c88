"""Models that are named as `module:attribute`: Python functions, and PyTorch modules."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from bfjax import models
from bfjax.evaluation.failures import happened
from bfjax.types import Image, Logits, Predict, as_pytree


def imported(text: str) -> tuple[ModuleType, Any]:
    """A module, looked for where Python does and in the current folder, and an attribute of it.

    Args:
      text: `module:attribute`.

    Returns:
      Both.

    Raises:
      ValueError: it cannot be imported, or has no such function.
    """
    name, _, attribute = text.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever their module does
        raise ValueError(f"{text} cannot be imported: {happened(error)}") from error
    finally:
        sys.path.pop(0)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{text}: {name} has no function {attribute}")
    return module, function


def is_torch(found: Any) -> bool:
    """Whether something is a PyTorch module, which it can only be where PyTorch was imported.

    Args:
      found: anything.

    Returns:
      Whether it is a `torch.nn.Module`.
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(found, torch.nn.Module)


def of_torch(text: str, network: Any, image_size: int | None) -> Predict:
    """A PyTorch module as a `Predict`.

    Args:
      text: what a user calls it.
      network: the module, of one channel or of three.
      image_size: side of the images.

    Returns:
      Its logits, by `bfjax.models.from_torch`.

    Raises:
      ValueError: the side is not said, or the module cannot be used.
    """
    if image_size is None:
        raise ValueError(f"{text} is a PyTorch module: --image-size says the side of its images")
    torch = sys.modules["torch"]
    some = next(network.parameters(), torch.zeros(1))
    grey = some.new_zeros(1, 1, image_size, image_size)
    try:
        return models.from_torch(
            network, channels=1 if _takes(network, grey) else 3, image_size=image_size
        )
    except ValueError as error:
        raise ValueError(f"{text} cannot be used: {error}") from error


def _takes(network: Any, images: Any) -> bool:
    if any(part.training for part in network.modules()):
        return False  # a batch would change it; it is refused
    try:
        with sys.modules["torch"].no_grad():
            network(images)
    except Exception:  # what it says of three channels is told
        return False
    return True


def of_user(text: str, function: Predict) -> Partial:
    """A user's function, whose errors name it and the line in the user's own file.

    Args:
      text: what a user calls it.
      function: one image to its logits.

    Returns:
      The same as a `Predict`.
    """
    return Partial(_of_the_user, _Named(text), as_pytree(function))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)  # each loading is traced anew: files may have changed
class _Named:
    """The name of a user's function, static."""

    text: str


def _of_the_user(named: _Named, function: Predict, image: Image) -> Logits:
    """A user's function, whose errors name it and the line in the user's own file."""
    try:
        logits = function(image)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{named.text} failed: {happened(error)}") from error
    shape, kind = getattr(logits, "shape", None), getattr(logits, "dtype", None)
    floats = kind is not None and jnp.issubdtype(kind, jnp.floating)
    if shape is None or not floats or len(shape) != 1 or not shape[0]:
        got = type(logits).__name__ if shape is None else f"{kind}{list(shape)}"
        raise ValueError(f"{named.text} must return logits, floats (classes,), got {got}")
    return jnp.asarray(logits)  # NumPy's cannot be traced
