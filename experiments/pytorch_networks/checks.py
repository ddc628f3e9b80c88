"""What is checked of one network: logits, gradients, `vmap`, an attack, beside PyTorch's own."""

from __future__ import annotations

import time
import warnings
from typing import Any

import jax
import numpy as np

from bfjax import attacks, models, run_batch
from bfjax.attack import cross_entropy
from bfjax.field import legendre
from bfjax.types import Predict
from experiments.pytorch_networks import zoo

IMAGES, STEPS, DEGREE, LOG_RANGE = 2, 3, 4, 0.1
LIMITS = {"logits": 1e-4, "gradient": 1e-2, "vmap": 1e-4, "attack": 1e-2}
SMOOTH = LIMITS | {"gradient": 1e-4, "attack": 1e-3}
"""The errors that are small enough, of networks with kinks and without."""
STEP, OURS = 1e-6, 0.99
"""Of differences; and the share of them that decides for our gradient."""
NOISE = 2
"""A gradient or attack may be off by so many times what PyTorch's own is in float32: those of deep
random networks with kinks part from each other by themselves."""


def check(name: str, *, seed: int) -> dict[str, Any]:
    """Reads a network by `from_torch` and compares it with PyTorch.

    Args:
      name: in `zoo.NETWORKS`.
      seed: of its weights; that of the images is the next one.

    Returns:
      What JSON holds. Errors of `logits` are those of the largest difference over the largest
      logit, all others are relative L2: of the input `gradient`, both against PyTorch in float64,
      beside PyTorch's own in float32; of `vmap` against single images; and of the `attack`, a
      smooth field of a few steps, against that through the callback in float64, as a share of the
      change, beside the one through the callback in float32.
      `works` says whether all are within the limits; where the gradients differ by more,
      `ours_by_differences` decides.
    """
    network = zoo.NETWORKS[name]
    module = zoo.build(name, seed=seed)
    images = zoo.images(name, IMAGES, seed=seed + 1)
    options = zoo.options(name)
    started = time.perf_counter()
    predict = models.from_torch(module, **options)
    reading = time.perf_counter() - started
    theirs, labels, slopes = _of_torch(module, name, images)
    changes = [_attacked(p, images, labels) - images for p in (predict, _callback(module, options))]
    exact, _, exact_slopes = _of_torch(module.double(), name, images, labels)
    exact_change = _attacked(_callback(module, options), images, labels) - images

    both = jax.jit(jax.vmap(_logits_and_slope, in_axes=(None, 0, 0)))
    one = jax.jit(_logits_and_slope)
    ours, our_slopes = both(predict, images, labels)
    single = [one(predict, x, y) for x, y in zip(images, labels, strict=True)]
    alone, alone_slopes = (np.stack(parts) for parts in zip(*single, strict=True))
    found = {
        "logits": _largest(ours, exact),
        "torch_logits": _largest(theirs, exact),
        "gradient": _relative(our_slopes, exact_slopes),
        "torch_gradient": _relative(slopes, exact_slopes),
        "vmap": _largest(ours, alone),
        "vmap_gradient": _relative(our_slopes, alone_slopes),
        "attack": _relative(changes[0], exact_change),
        "torch_attack": _relative(changes[1], exact_change),
    }
    limits = dict(SMOOTH if network.smooth else LIMITS)
    for key in ("gradient", "attack"):
        limits[key] = max(limits[key], NOISE * found[f"torch_{key}"])
    if found["gradient"] > limits["gradient"]:
        slopes = np.asarray(our_slopes)
        found["ours_by_differences"] = _whose(module, name, images, labels, slopes, exact_slopes)
        if found["ours_by_differences"] > OURS:  # then the callback's attack goes astray too
            del limits["gradient"], limits["attack"]
    return found | {
        "works": all(found[key] <= limit for key, limit in limits.items()),
        "largest_logit": float(np.abs(exact).max()),
        "reading_seconds": reading,
    }


def _logits_and_slope(predict: Predict, image: jax.Array, label: jax.Array) -> Any:
    def loss(image: jax.Array) -> Any:
        logits = predict(image)
        return cross_entropy(logits, label), logits

    slope, logits = jax.grad(loss, has_aux=True)(image)
    return logits, slope


def _of_torch(module: Any, name: str, images: np.ndarray, labels: Any = None) -> Any:
    """Logits, labels (if not given the least likely, where gradients are large), and gradients."""
    import torch

    dtype = next(module.parameters()).dtype
    x = torch.from_numpy(images).to(dtype).requires_grad_()
    logits = zoo.logits(module, zoo.tensor(name, x))
    labels = logits.argmin(-1).numpy() if labels is None else labels
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    (slopes,) = torch.autograd.grad(loss, x)
    return logits.detach().numpy(), labels, slopes.numpy()


def _whose(
    module: Any, name: str, images: Any, labels: Any, ours: np.ndarray, theirs: np.ndarray
) -> float:
    """Whose gradient differences of the loss confirm, along what the two differ by: 1 ours, 0 not.

    PyTorch's can be wrong: that of a batch norm is on a CPU (2.13, 2.14), for a batch of one, where
    the gradient that it gets is expanded, as behind a mean over tokens.
    """
    along = (ours - theirs.astype(np.float64)) / np.linalg.norm(ours - theirs)
    up, down = (_loss(module, name, images + h * along, labels) for h in (STEP, -STEP))
    exact, one, other = (up - down) / (2 * STEP), (ours * along).sum(), (theirs * along).sum()
    return float((exact - other) / (one - other))


def _loss(module: Any, name: str, images: np.ndarray, labels: np.ndarray) -> float:
    import torch

    logits = zoo.logits(module, zoo.tensor(name, torch.from_numpy(images)))
    return torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(labels), reduction="sum"
    ).item()


def _callback(module: Any, options: dict[str, Any]) -> Predict:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is asked through a callback")
        return models.from_torch(module, **options, route="callback")


def _attacked(predict: Predict, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    field = legendre(images.shape[1:3], degree=DEGREE)
    attack = attacks.bounded_field(field, max_log_range=LOG_RANGE, num_steps=STEPS, iterate="last")
    return np.asarray(run_batch(attack, predict, images, labels).adversarial)


def _largest(found: Any, exact: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())


def _relative(found: Any, exact: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact))
