"""Any PyTorch module as a `Predict`: JAX asks it, and takes its gradients, through a callback.

What `torch_export` cannot translate runs in PyTorch itself here, forward, and back by autograd, one
call for a batch. JAX's buffers are handed over by DLPack: they stay on their device, nothing waits
for a copy (`jax.pure_callback` does, and never wakes up where all of XLA's threads are in one).
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import warnings
from functools import partial
from typing import Any

import jax
from jax.experimental.buffer_callback import buffer_callback
from jax.tree_util import Partial
from jaxtyping import Array

from bfjax.models import torch_refusals
from bfjax.types import Image, Logits


def from_callback(
    module: Any, *, channels: int | None, image_size: int | tuple[int, int] | None
) -> Partial:
    """A PyTorch module as a classifier that JAX asks through a callback.

    It is what `from_torch(..., route="callback")` makes. Logits and gradients are PyTorch's own, by
    one call of the module and one of autograd for all images of a batch. `jax.jit`, `vmap` and
    `grad` work, on CPUs and NVIDIA GPUs; second derivatives do not. The module is left as it is and
    where it is, and its weights are read at each call.

    Args:
      module: an `nn.Module` in evaluation mode, or an exported program: (batch, channels, height,
        width) in [0, 1] to logits (batch, classes), for batches of any size.
      channels: 1 or 3, what it takes; a grey image is repeated.
      image_size: side or (h, w) of the two black images that it is tried with.

    Returns:
      The classifier, equal to itself alone.

    Raises:
      ValueError: the module is in training mode, fails, or returns no logits.

    Warns:
      UserWarning: once, that each step leaves JAX.
    """
    torch = importlib.import_module("torch")
    channels, *sides = torch_refusals.asked(channels, image_size)
    name = type(module).__name__
    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
        for part in module.modules():
            part.training = False  # whatever they say: the mode of a program is in its operators
    torch_refusals.refuse_training(module)
    host = _Host(module, name, channels)
    host.classes = host.tried(*sides)
    warnings.warn(
        f"{name} is asked through a callback: each step leaves JAX for PyTorch, takes PyTorch's "
        "time, and has no second derivatives",
        stacklevel=3,
    )
    return Partial(_call, host)


@jax.tree_util.register_static
class _Host:
    """A module, and what JAX calls of it; equal to itself alone."""

    classes: int

    def __init__(self, module: Any, name: str, channels: int):
        self.module, self.name, self.channels = module, name, channels
        self.torch = importlib.import_module("torch")
        self._order = self.torch.contiguous_format
        self._lock = threading.Lock()  # programs may run on several threads
        self._kept: tuple[Any, ...] | None = None  # of the last batch: its images, and its graph
        tensors = [*module.parameters(), *module.buffers()]
        place = next((t for t in tensors if t.is_floating_point()), None)
        self._device, self._dtype = getattr(place, "device", None), getattr(place, "dtype", None)

    def tried(self, height: int, width: int) -> int:
        """How many classes the module tells apart, as it says of two black images."""
        try:
            with self.torch.no_grad():
                logits = self._logits(self._input(self.torch.zeros(2, height, width, 1)))
        except Exception as error:
            told = next(iter(str(error).splitlines()), type(error).__name__)
            shape = (2, self.channels, height, width)
            raise ValueError(f"{self.name} fails on images {shape}: {told}") from error
        if logits.ndim != 2 or len(logits) != 2 or not logits.is_floating_point():
            raise ValueError(
                f"{self.name} must return logits, floats (batch, classes), and returns "
                f"{logits.dtype} {tuple(logits.shape)} for two images"
            )
        return logits.shape[1]

    def _input(self, images: Any) -> Any:
        """Images (n, h, w, c) as the module takes them."""
        return images.movedim(-1, 1).to(device=self._device, dtype=self._dtype)

    def _logits(self, x: Any) -> Any:
        if any(part.training for part in self.module.modules()):
            raise ValueError(f"{self.name} is in training mode: call its eval() first")
        # a copy, in the order that modules get, so that they may change their input
        copy = x.expand(-1, self.channels, -1, -1).clone(memory_format=self._order)
        return torch_refusals.logits_of(self.module(copy), self.torch)

    def _recorded(self, images: Any) -> tuple[Any, ...]:
        """Images, the module's input, and its logits with the graph that leads back."""
        with self.torch.enable_grad():
            x = self._input(images).detach().requires_grad_()
            return images, x, self._logits(x)

    def forward(self, context: Any, out: Any, images: Any) -> None:
        """Logits alone."""
        with self._lock, self._result(context, out) as logits, self.torch.no_grad():
            self._kept = None
            logits.copy_(self._logits(self._input(self._taken(images))).view_as(logits))

    def forward_recorded(self, context: Any, out: Any, images: Any) -> None:
        """Logits whose gradient `backward` will want."""
        with self._lock, self._result(context, out) as logits:
            # a copy, since JAX takes its buffer back
            self._kept = self._recorded(self._taken(images).clone())
            logits.copy_(self._kept[-1].detach().view_as(logits))

    def backward(self, context: Any, out: Any, images: Any, logits: Any, along: Any) -> None:
        """Cotangents of images; the module runs again only where another batch came between."""
        del logits  # asked for so that they come first
        torch = self.torch
        with self._lock, self._result(context, out) as gradient:
            taken, kept, self._kept = self._taken(images), self._kept, None
            if kept is None or not torch.equal(kept[0], taken):
                kept = self._recorded(taken)
            _, x, recorded = kept
            if not recorded.requires_grad:
                raise ValueError(
                    f"{self.name} has no gradient: is there a torch.no_grad or a detach in it?"
                )
            along = torch.from_dlpack(along).view(recorded.shape).to(recorded)
            (found,) = torch.autograd.grad(recorded, x, along, materialize_grads=True)
            gradient.copy_(found.movedim(1, -1).reshape(gradient.shape))

    def _taken(self, images: Any) -> Any:
        """Images of any number of batch axes as one batch."""
        taken = self.torch.from_dlpack(images)
        return taken.view(-1, *taken.shape[-3:])

    @contextlib.contextmanager
    def _result(self, context: Any, out: Any):
        """What the block writes to; on a GPU in JAX's stream, in no mode of the caller's."""
        cuda = self.torch.cuda
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.torch.inference_mode(False))
            result = self.torch.from_dlpack(out)
            if result.is_cuda:
                stream = cuda.ExternalStream(context.stream, device=result.device)
                stack.enter_context(cuda.stream(stream))
            yield result


def _call(host: _Host, image: Image) -> Logits:
    if image.shape[-1] not in (1, host.channels):
        raise ValueError(f"{host.name} takes {host.channels} channels, the image is {image.shape}")
    return _logits(host, image)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _logits(host: _Host, image: Image) -> Logits:
    return _asked(host, "forward", (host.classes,), image)


def _forward(host: _Host, image: Image) -> tuple[Logits, tuple[Image, Logits]]:
    logits = _asked(host, "forward_recorded", (host.classes,), image)
    return logits, (image, logits)


def _backward(host: _Host, residuals: tuple[Image, Logits], along: Logits) -> tuple[Image]:
    return (_asked(host, "backward", residuals[0].shape, *residuals, along),)


_logits.defvjp(_forward, _backward)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _asked(host: _Host, name: str, shape: tuple[int, ...], *arrays: Array) -> Array:
    result = jax.ShapeDtypeStruct(shape, arrays[0].dtype)
    # mapped by vmap: all arrays get the same new axis in front, and go in one call
    return buffer_callback(getattr(host, name), result, vmap_method="broadcast_all")(*arrays)


@_asked.defjvp
def _refused(host: _Host, name: str, shape: Any, primals: Any, tangents: Any) -> Any:
    raise ValueError(
        f"{host.name} is asked through a callback, which has no second derivatives; "
        "bfjax.models.from_torch(..., route='export') has them"
    )
