"""What is timed. Each contender is a process of its own that works when it is told to.

    python -m experiments.benchmark.contenders '{"name": "gradient", "network": "resnet50"}'

compiles, does the work once, prints a line of JSON, and then, for every line on stdin, does the
work again and prints how many seconds that took. A process that waits for a line takes no time from
the others.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bfjax
import bfjax.explain
from bfjax import attacks, models
from bfjax.attack import run_stream
from bfjax.field import chunked_polynomial_tps, legendre
from bfjax.robustness import DEGREE, certify
from experiments.benchmark.pictures import SIZE, Work, as_array, batch_of, brisque, opencv_brisque

CLASSES, STEPS = 2, 10
MATRIX = 2048


def _precision(dtype: str) -> Any:
    """How products of float32 are made: a GPU rounds them to TF32 if not told otherwise."""
    on_gpu = jax.default_backend() == "gpu"
    return jax.default_matmul_precision("highest" if dtype == "float32" and on_gpu else None)


def _ours(network: str, dtype: str = "float32", *, transform: bool | None = None) -> Any:
    """A frozen network with random weights; its symmetric padding is PyTorch's."""
    options: dict[str, Any] = {"padding": "symmetric"} if network == "mobilenet_v1" else {}
    model = models.build(network, num_classes=CLASSES, channels=3, **options)
    predict = models.as_predict(models.freeze(model, transform=transform))
    return jax.tree.map(
        lambda x: x.astype(as_array(dtype)) if jnp.issubdtype(x.dtype, jnp.floating) else x, predict
    )


@jax.jit
def _gradient(predict: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    def loss(image: jax.Array, label: jax.Array) -> jax.Array:
        return bfjax.attack.cross_entropy(predict(image), label)

    return jax.vmap(jax.grad(loss))(images, labels)


def peak(dtype: str = "float32", size: int = MATRIX) -> Work:
    """A product of two square matrices: what the machine can do at this moment."""
    one = jnp.ones((size, size), as_array(dtype))
    product = jax.jit(lambda x: x @ x)

    def work() -> Any:
        with _precision(dtype):
            return product(one)

    return work, {"flops": 2 * size**3}


def gradient(
    network: str, batch: int, dtype: str = "float32", times: int = 1, side: int = SIZE
) -> Work:
    """Input gradients of our frozen network; its `flops` are those of the plain convolutions."""
    predict, (images, labels) = _ours(network, dtype), batch_of(batch, dtype, side)
    plain = _ours(network, dtype, transform=False)
    cost = _gradient.lower(plain, images, labels).cost_analysis() or {}

    def work() -> Any:
        found = None
        with _precision(dtype):
            for _ in range(times):
                found = jax.block_until_ready(_gradient(predict, images, labels))
        return found

    return work, {"flops": times * cost.get("flops", 0.0)}


def attack(network: str, batch: int, dtype: str = "float32", side: int = SIZE) -> Work:
    """The whole bias-field attack, ten steps driven from the host."""
    predict, (images, labels) = _ours(network, dtype), batch_of(batch, dtype, side)
    made = attacks.bias_field((side, side), num_steps=STEPS)
    return _attacking(made, predict, images, labels, dtype), {}


def bounded(network: str, batch: int) -> Work:
    """The same number of steps of smooth light within a log-range."""
    predict, (images, labels) = _ours(network), batch_of(batch)
    field = legendre((SIZE, SIZE), degree=DEGREE)
    made = attacks.bounded_field(field, max_log_range=0.4, num_steps=STEPS)
    return _attacking(made, predict, images, labels, "float32"), {}


def native(network: str, batch: int, native_side: int) -> Work:
    """The whole bias-field attack, and its fields on images of a native size."""
    predict, (images, labels) = _ours(network), batch_of(batch)
    made = attacks.bias_field((SIZE, SIZE), num_steps=STEPS)
    large = chunked_polynomial_tps((native_side, native_side))

    def work() -> Any:
        params = bfjax.run_batch(made, predict, images, labels).params
        split = zip(*params, strict=True)
        fields = (large.log_field(type(params)(*one)) for one in split)
        return [jax.block_until_ready(field).shape for field in fields]  # one at a time

    return work, {}


def _attacking(made: Any, predict: Any, images: Any, labels: Any, dtype: str) -> Callable[[], Any]:
    def work() -> Any:
        with _precision(dtype):
            return bfjax.run_batch(made, predict, images, labels)

    return work


def scan(network: str, batch: int) -> Work:
    """The same attack as one program: `jit(vmap(run))`."""
    predict, (images, labels) = _ours(network), batch_of(batch)
    made = attacks.bias_field((SIZE, SIZE), num_steps=STEPS)

    @jax.jit
    def whole(made: Any, predict: Any, images: jax.Array, labels: jax.Array) -> Any:
        return jax.vmap(lambda x, y: bfjax.run(made, predict, x, y))(images, labels)

    return lambda: whole(made, predict, images, labels), {}


def bim(network: str, batch: int, dtype: str = "float32", side: int = SIZE) -> Work:
    """Our BIM, ten steps."""
    predict, (images, labels) = _ours(network, dtype), batch_of(batch, dtype, side)
    made = attacks.bim(num_steps=STEPS)
    return _attacking(made, predict, images, labels, dtype), {}


def sensitivity_maps(network: str, batch: int, steps: int) -> Work:
    """Maps of Eq. 8, between random images and darker ones."""
    predict, (images, labels) = _ours(network), batch_of(batch)
    darker = 0.9 * images
    explained = bfjax.explain.sensitivity_map_batch
    return lambda: explained(predict, images, darker, labels, num_steps=steps), {}


def forward(network: str, batch: int, times: int = 1) -> Work:
    """Forward passes of our frozen network."""
    predict, (images, _), ask = _ours(network), batch_of(batch), bfjax.attack.logits_of
    return lambda: [jax.block_until_ready(ask(predict, images)) for _ in range(times)], {}


def certificate(network: str, batch: int, times: int) -> Work:
    """A certificate of one image by `times` batches of lights."""
    predict, image = _ours(network), batch_of(1)[0][0]
    field, key = legendre((SIZE, SIZE), degree=DEGREE), jax.random.key(0)

    @jax.jit
    def certified(predict: Any, image: jax.Array) -> Any:
        lights = {"num_guess": batch, "num_samples": batch * (times - 1), "chunk_size": batch}
        return certify(predict, field, image, sigma=0.05, key=key, **lights)

    return lambda: certified(predict, image), {}


def _about(predict: Any, centre: jax.Array, image: jax.Array) -> jax.Array:
    return predict(image) - centre


def stream(network: str, batch: int, early_stop: bool, images: int = 32) -> Work:
    """A stream of images under the bias field, most of which some steps fool."""
    untrained, (values, _) = _ours(network), batch_of(images)
    logits = jax.vmap(untrained)(values)
    # about their mean, so that its answers differ from image to image and some steps change them
    centre = logits.mean(0)
    predict = jax.tree_util.Partial(_about, untrained, centre)
    labels = np.asarray((logits - centre[None]).argmax(-1), np.int32)
    made = attacks.bias_field((SIZE, SIZE), num_steps=STEPS, early_stop=early_stop)
    taken: list[int] = []

    def work() -> Any:
        taken.clear()
        examples = zip(range(images), np.asarray(values), labels, strict=True)
        return list(run_stream(made, predict, examples, batch_size=batch, on_step=taken.append))

    work()
    return work, {"steps": sum(taken)}


def foolbox_jax(network: str, batch: int, side: int = SIZE) -> Work:
    """Foolbox's BIM on its JAX backend, of our network; called as its users do, it judges too."""
    import foolbox

    predict, (images, labels) = _ours(network), batch_of(batch, side=side)
    model = foolbox.JAXModel(jax.jit(jax.vmap(predict)), bounds=(0, 1))
    made = foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=STEPS)
    criterion = foolbox.criteria.Misclassification(labels)
    return lambda: made(model, images, criterion, epsilons=0.1), {}


def _torch(network: str, layout: str, dtype: str = "tf32") -> tuple[Any, Any]:
    """A folded network in PyTorch, on the GPU where there is one, and its device."""
    import torch
    from torch.fx.experimental.optimization import fuse

    from experiments.benchmark.torch_networks import NETWORKS

    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    module = fuse(NETWORKS[network](CLASSES).eval()).to(device).requires_grad_(False)
    module = module.to(getattr(torch, as_array(dtype)))
    if layout != "eager":
        module = module.to(memory_format=torch.channels_last)
    return torch.compile(module) if layout == "compile" else module, device


def _torch_batch(batch: int, side: int, device: Any) -> tuple[Any, Any]:
    import torch

    images = torch.tensor(np.asarray(batch_of(batch, side=side)[0])).permute(0, 3, 1, 2)
    return images.contiguous().to(device), torch.zeros(batch, dtype=torch.long, device=device)


def torch_gradient(
    network: str, batch: int, layout: str, dtype: str = "float32", side: int = SIZE
) -> Work:
    """Input gradients in PyTorch: ``layout`` is eager, channels_last or compile."""
    import torch

    module, device = _torch(network, layout, dtype)
    x, labels = _torch_batch(batch, side, device)
    x = x.to(getattr(torch, as_array(dtype))).contiguous(
        memory_format=torch.contiguous_format if layout == "eager" else torch.channels_last
    )

    def work() -> Any:
        x.grad = None
        x.requires_grad_()
        loss = torch.nn.functional.cross_entropy(module(x).float(), labels, reduction="sum")
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return x.grad

    return work, {}


def foolbox_torch(
    network: str, batch: int, layout: str = "channels_last", side: int = SIZE
) -> Work:
    """Foolbox's BIM on its PyTorch backend, called as its users do."""
    import foolbox

    module, device = _torch(network, layout)
    x, labels = _torch_batch(batch, side, device)
    model = foolbox.PyTorchModel(module, bounds=(0, 1), device=device)
    made = foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=STEPS)
    criterion = foolbox.criteria.Misclassification(labels)
    return lambda: [found.cpu() for found in made(model, x, criterion, epsilons=0.1)], {}


def torchattacks_bim(
    network: str, batch: int, layout: str = "channels_last", side: int = SIZE
) -> Work:
    """Torchattacks' BIM, which does not judge what it made."""
    import torchattacks

    module, device = _torch(network, layout)
    x, labels = _torch_batch(batch, side, device)
    made = torchattacks.BIM(module, eps=0.1, alpha=0.02, steps=STEPS)
    return lambda: made(x, labels).cpu(), {}


CONTENDERS: dict[str, Callable[..., Work]] = {
    f.__name__: f
    for f in (
        *(peak, gradient, forward, certificate, attack, bounded, native, scan, bim, stream),
        *(sensitivity_maps, brisque, opencv_brisque),
        *(foolbox_jax, torch_gradient, foolbox_torch, torchattacks_bim),
    )
}


def serve(contenders: Mapping[str, Callable[..., Work]], spec: str) -> None:
    """Prepares one contender, and has it work for every line on stdin.

    Args:
      contenders: by name.
      spec: JSON of the name and the options.
    """
    told = json.loads(spec)
    work, facts = contenders[told.pop("name")](**told)
    jax.block_until_ready(work())
    print(json.dumps(facts | {"device": jax.devices()[0].device_kind}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        jax.block_until_ready(work())
        took = time.perf_counter() - started
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": took, "peak_mib": peak_mib}), flush=True)


if __name__ == "__main__":
    serve(CONTENDERS, sys.argv[1])
