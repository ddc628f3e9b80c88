"""Seconds for input gradients of one network, ours and PyTorch's.

Each contender is a process of its own that builds the same network with the same weights, and works
when it is told to (`experiments.benchmark.alternate`). All keep the memory that they free. Batch
norms are folded for PyTorch too, where `torch.fx` can.
"""

from __future__ import annotations

import statistics
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bfjax import models
from bfjax.attack import cross_entropy
from bfjax.types import Predict
from experiments.benchmark.alternate import alternate
from experiments.benchmark.contenders import Work, serve
from experiments.pytorch_networks import zoo

OURS, LAYOUTS = "bfjax", ("eager", "channels_last", "compile")


def measure(network: str, *, batch_size: int, repetitions: int, seed: int) -> dict[str, Any]:
    """Times all contenders in turn.

    Args:
      network: in `zoo.NETWORKS`.
      batch_size: of images of side 224; of larger ones so few that the pixels are as many.
      repetitions: turns of each.
      seed: of the weights.

    Returns:
      What JSON holds: the medians, all seconds, and ours over the best of PyTorch's.
    """
    batch = max(1, round(batch_size * (224 / max(224, zoo.NETWORKS[network].side)) ** 2))
    common = {"module": __name__, "kept": True, "network": network, "batch": batch, "seed": seed}
    specs = {OURS: common | {"name": "ours"}}
    specs |= {layout: common | {"name": "theirs", "layout": layout} for layout in LAYOUTS}
    timings, missing = alternate(specs, repetitions=repetitions)
    medians = {label: statistics.median(timing.seconds) for label, timing in timings.items()}
    peers = {label: seconds for label, seconds in medians.items() if label != OURS}
    best = min(peers, key=lambda label: peers[label], default=None)
    ratio = medians[OURS] / peers[best] if best and OURS in medians else None
    return {
        "batch": batch,
        "medians": medians,
        "best": best,
        "ratio": ratio,
        "missing": missing,
        "timings": {label: timing._asdict() for label, timing in timings.items()},
    }


@jax.jit
def _gradient(predict: Predict, images: jax.Array, labels: jax.Array) -> jax.Array:
    def loss(image: jax.Array, label: jax.Array) -> jax.Array:
        return cross_entropy(predict(image), label)

    return jax.vmap(jax.grad(loss))(images, labels)


def ours(network: str, batch: int, seed: int) -> Work:
    """Input gradients of what `from_torch` reads."""
    predict = models.from_torch(zoo.build(network, seed=seed), **zoo.options(network))
    images = jnp.asarray(zoo.images(network, batch, seed=seed + 1))
    labels = jnp.zeros(batch, jnp.int32)
    return lambda: _gradient(predict, images, labels), {}


def theirs(network: str, batch: int, seed: int, layout: str) -> Work:
    """Input gradients in PyTorch: ``layout`` is eager, channels_last or compile."""
    import torch

    module, folded = _folded(zoo.build(network, seed=seed))
    order = torch.contiguous_format if layout == "eager" else torch.channels_last
    module = module.to(memory_format=order)
    if layout == "compile":
        module = torch.compile(module)
    images = torch.from_numpy(zoo.images(network, batch, seed=seed + 1))
    x = zoo.tensor(network, images).contiguous(memory_format=order).requires_grad_()
    labels = torch.zeros(batch, dtype=torch.long)

    def work() -> np.ndarray:
        loss = torch.nn.functional.cross_entropy(zoo.logits(module, x), labels, reduction="sum")
        return torch.autograd.grad(loss, x)[0].numpy()

    return work, {"folded": folded}


def _folded(module: Any) -> tuple[Any, bool]:
    with warnings.catch_warnings():  # it imports what PyTorch itself calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.fx.experimental.optimization import fuse

    try:
        return fuse(module), True
    except Exception:  # what torch.fx cannot trace, it says in many ways
        return module, False


if __name__ == "__main__":
    serve({"ours": ours, "theirs": theirs}, sys.argv[1])
