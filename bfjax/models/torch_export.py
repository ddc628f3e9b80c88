"""PyTorch networks as `Predict`s: their exported graph, run in JAX.

`torch.export` writes down which operators a network applies; `bfjax.models.aten` has each in JAX.
What comes out is a function like any other: it is compiled, mapped over images and differentiated,
and its weights travel as arguments, so that two checkpoints of one architecture compile once.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import logging
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bfjax.models import aten, torch_reader, torch_refusals
from bfjax.models.normalization import normalized
from bfjax.models.torch_callback import from_callback
from bfjax.types import Image, Logits


def from_torch(
    module: Any,
    *,
    channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    route: str = "export",
    input_range: Sequence[float] | Literal["xrv"] = (0.0, 1.0),
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
) -> Partial:
    """A PyTorch network as a `Predict`, without PyTorch once it is read.

    The network takes one image (1, channels, h, w) in [0, 1]; where it was trained on others,
    `input_range`, `mean` and `std` say so (see `normalized`). Its output is the logits,
    (1, classes); of a tuple the first, of a mapping or an object (as `transformers` returns) its
    `logits`. It is read with float32 weights on the CPU; the module itself stays as it is. Batch
    norms are folded into the convolutions before them.

    Gradients are PyTorch's, at kinks too; those of a `torch.autograd.Function` where they are the
    derivative of its forward, which is all that `torch.export` keeps. Convolutions and maxima
    differentiate in reverse mode; a second time in reverse mode again.

    Args:
      module: a `torch.nn.Module` in evaluation mode, or a `torch.export.ExportedProgram`, of a
        batch of one or any.
      channels: 1 or 3, what the network takes. Grey images are repeated for one that takes RGB. An
        exported program says it itself.
      image_size: side or (h, w) of the images. An exported program may say it itself.
      route: ``"export"``, or ``"callback"``, which asks PyTorch for each logit and gradient.
      input_range: what the network expects for black and white; ``"xrv"`` is torchxrayvision's.
      mean: what is then subtracted, one number or one a channel.
      std: what it is then divided by, likewise.

    Returns:
      The network; its weights and buffers are leaves.

    Raises:
      ImportError: PyTorch is not installed.
      ValueError: the network is in training mode, takes several inputs, changes its buffers,
        decides shapes by the image, draws random numbers, returns no logits, has a
        `torch.autograd.Function` with another gradient than its forward, or uses operators that
        have no translation, which the message has all.

    Example:
      >>> from bfjax.models import from_torch
      >>> import torch  # doctest: +SKIP
      >>> head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))  # doctest: +SKIP
      >>> predict = from_torch(head.eval(), channels=1, image_size=8)  # doctest: +SKIP
      >>> predict(jnp.zeros((8, 8, 1))).shape  # doctest: +SKIP
      (2,)

    Reference: https://docs.pytorch.org/docs/stable/export.html, the Core ATen operators.
    """
    routes = {"export": _translated, "callback": from_callback}
    if route not in routes:
        raise ValueError(f"route is 'export' or 'callback', got {route!r}")
    _import_torch()
    predict = routes[route](module, channels=channels, image_size=image_size)
    if np.array_equal(input_range, (0, 1)) and not np.size(mean) and not np.size(std):
        return predict
    return normalized(predict, input_range=input_range, mean=mean, std=std)


def _translated(module: Any, *, channels: Any, image_size: Any) -> Partial:
    torch = _import_torch()
    if isinstance(module, torch.export.ExportedProgram):
        shape = torch_refusals.declared(torch, module, channels, image_size)
        module = module.module()
    elif isinstance(module, torch.nn.Module):
        shape = torch_refusals.asked(channels, image_size)
        torch_refusals.refuse_training(module)
        torch_refusals.refuse_inputs(torch_refusals.inputs_of(module))
        module = _plain_weights(torch, module)
    else:
        kind = type(module).__name__
        raise ValueError(f"{kind} is no torch.nn.Module and no torch.export.ExportedProgram")
    exported = _exported(torch, module, shape)
    graph, weights = torch_reader.read(exported)
    torch_refusals.refuse_missing(graph)
    graph, arrays = aten.prepare(graph, weights, transform=jax.default_backend() == "cpu")
    predict = Partial(_Forward(graph, shape), jax.device_put(arrays))
    c, h, w = shape
    try:
        jax.eval_shape(predict, jax.ShapeDtypeStruct((h, w, c), jnp.float32))
    except Exception as error:  # an operator may have some of its forms alone
        raise torch_refusals.not_traced(error) from error
    return predict


@dataclasses.dataclass(frozen=True)
class _Forward:
    """What is static about a network: its graph, and the (c, h, w) that it was exported for."""

    graph: aten.Graph
    shape: tuple[int, int, int]

    def __call__(self, weights: Mapping[str, Any], image: Image) -> Logits:
        c, h, w = self.shape
        if image.shape not in {(h, w, 1), (h, w, c)}:
            raise ValueError(f"this network was read for images {(h, w, c)}, got {image.shape}")
        image = jnp.broadcast_to(image, (h, w, c))
        return aten.run(self.graph, weights, image[None]).reshape(-1)


def _import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ImportError("PyTorch networks need torch: pip install 'bfjax[torch]'") from error


def _plain_weights(torch: Any, module: Any) -> Any:
    """The module, or its copy in float32 on the CPU where it is anything else."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(t.device.type == "meta" for t in tensors):
        raise ValueError("its weights are on the device 'meta', which has none: load them first")
    floating = {t.dtype for t in tensors if t.dtype.is_floating_point}
    if floating <= {torch.float32} and all(t.device.type == "cpu" for t in tensors):
        return module
    return copy.deepcopy(module).to("cpu").float()


def _exported(torch: Any, module: Any, shape: tuple[int, int, int]) -> Any:
    """The network for one image, decomposed into operators that change nothing in place."""

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = module
            self.training = False  # .eval() would reach into the module

        def forward(self, image):
            return torch_refusals.logits_of(self.network(image), torch)

    network = Logits()
    with quietly():
        try:
            exported = torch.export.export(network, (torch.zeros(1, *shape),), strict=False)
        except torch_refusals.Refused as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # PyTorch raises many kinds
            raise torch_refusals.not_exported(error, shape) from error
        torch_refusals.refuse_detached(exported)
        table = torch.export.default_decompositions()
        for operator in [operator for operator in table if str(operator) in aten.WHOLE]:
            del table[operator]
        decomposed = exported.run_decompositions(table)
        torch_refusals.refuse_mutations(decomposed)
        torch_refusals.refuse_output(decomposed)
        torch_refusals.refuse_own_gradients(torch, network, exported.module(), shape)
    return decomposed


@contextmanager
def quietly() -> Generator[None]:
    """Without PyTorch's own remarks: what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
