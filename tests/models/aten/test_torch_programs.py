"""Programs as people write them, exported whole: what remains of them is translated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import models
from tests.models.aten.cases import close, draw
from tests.models.parity import import_torch

IMAGE = draw(3, 8, 8, low=0, high=1)
# black, white, and where the activations below have their kinks
LEVELS = np.array([0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1], np.float32).reshape(1, 3, 3)


def _f():
    return import_torch().nn.functional


def _written_in_place(x):
    y = x.clone()
    y[:, :, 1:3] = 0.5
    y[x > 0.9] = 0.0
    y[:, 0] += 1
    return y.clamp_(0, 0.8)


def _warped(x):
    theta = import_torch().tensor([[[0.9, 0.1, 0.05], [-0.1, 1.1, 0.0]]])
    return _f().grid_sample(x, _f().affine_grid(theta, x.shape, False), align_corners=False)


def _in_windows(x):
    x = import_torch().roll(x, (-2, -2), (2, 3)).view(1, 3, 2, 4, 2, 4)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 3)


def _attention(x, **options):
    q = x[:, :2].reshape(1, 4, 8, 4)
    return _f().scaled_dot_product_attention(q, q, q, **options)


def _grouped_attention(x):
    q = x[:, :2].reshape(1, 4, 8, 4)
    return _f().scaled_dot_product_attention(q, q[:, :2], q[:, 2:], enable_gqa=True)


def _filtered(x):
    fft = import_torch().fft
    half = fft.rfft2(x, norm="ortho")
    return fft.irfft2(half * half.abs(), s=(8, 8), norm="ortho")


def _spectrum(x):
    z = import_torch().fft.rfft2(x)
    sizes = (z.norm(dim=3), z.norm(3, dim=3), z.var(3), z.std(3), z.abs().sum(3))
    return import_torch().stack([*sizes, z.sgn().real.sum(3)])


def _masked(x):
    mask = import_torch().ones(8, 8, dtype=import_torch().bool).tril()
    mask[2] = False
    return _attention(x, attn_mask=mask)


PROGRAMS = {
    "written in place": _written_in_place,
    "warped": _warped,
    "in windows": _in_windows,
    "attention": _attention,
    "causal": lambda x: _attention(x, is_causal=True),
    "masked": _masked,
    "grouped": _grouped_attention,
    "filtered": _filtered,
    "measured in frequencies": _spectrum,
    **{f"resized, {mode}": lambda x, m=mode: _f().interpolate(x, scale_factor=1.5, mode=m)
       for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")},
    "resized smoothly": lambda x: _f().interpolate(x, (5, 9), mode="bicubic", antialias=True),
    **{f"padded, {mode}": lambda x, m=mode: _f().pad(x, (1, 2, 3, 0), mode=m)
       for mode in ("constant", "reflect", "replicate", "circular")},
    "unfolded": lambda x: _f().fold(_f().unfold(x, 3, padding=1), (8, 8), 3, padding=1),
    "shuffled": lambda x: _f().pixel_shuffle(_f().pixel_unshuffle(x, 2), 2),
    "standardised": lambda x: (x - x.mean((2, 3), keepdim=True)) / x.std() + x.var(),
    "scaled": lambda x: (x - x.amin()) / (x.amax() - x.amin()) + _f().normalize(x),
    "sorted": lambda x: x.flatten(1).sort(1).values[:, :9] * x.flatten(1).topk(9).values,
    "rolled flat": lambda x: x.roll(5),
}  # fmt: skip
KINKS = {
    **{name: lambda x, n=name: getattr(_f(), n)(12 * (x - 0.5)) for name in (
        "relu", "relu6", "hardswish", "hardsigmoid", "hardtanh", "elu", "selu", "celu", "gelu",
        "silu", "mish", "softplus", "leaky_relu", "logsigmoid", "softsign", "hardshrink",
        "softshrink",
    )},
    **{f"{name}, far out": lambda x, n=name: getattr(_f(), n)(400 * (x - 0.5)) for name in (
        "elu", "gelu", "silu", "mish", "softplus", "logsigmoid",
    )},
    "deviation of nothing": lambda x: (0 * x).std((2, 3)) + x.mean(),
    "norm of nothing": lambda x: (0 * x).norm(dim=2) + x.sum(2),
    "clamp": lambda x: x.clamp(0.25, 0.75),
    "magnitude": lambda x: (x - 0.5).abs(),
    "ties": lambda x: (2 * x).round().amax((2, 3)) + x.max(),
}  # fmt: skip


def _network(program):
    class Network(import_torch().nn.Module):
        def forward(self, x):
            return program(x).reshape(1, -1)

    return Network().eval()


def _compare(program, image, slope):
    torch = import_torch()
    network = _network(program)
    x = torch.from_numpy(image[None]).requires_grad_()
    expected = network(x)
    weights = np.linspace(0.5, 1.5, expected.numel(), dtype=np.float32)
    (expected[0] * torch.from_numpy(weights)).sum().backward()

    predict = models.from_torch(network, channels=len(image), image_size=image.shape[1:])

    def loss(image):
        logits = predict(image)
        return (logits * weights).sum(), logits

    found, logits = jax.jit(jax.grad(loss, has_aux=True))(jnp.asarray(image.transpose(1, 2, 0)))
    close(np.asarray(logits), expected[0].detach().numpy(), 2e-6)
    close(np.asarray(found).transpose(2, 0, 1), x.grad[0].numpy(), slope)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_as_in_torch(name):
    _compare(PROGRAMS[name], IMAGE, 1e-5)


@pytest.mark.parametrize("name", KINKS)
def test_a_gradient_at_a_kink_is_as_in_torch(name):
    _compare(KINKS[name], LEVELS, 1e-5)


MAPPED = ("attention", "filtered", "masked", "sorted", "unfolded", "warped", "written in place")


@pytest.mark.parametrize("name", MAPPED)
def test_many_images_are_as_one_by_one_in_torch(name):
    network, images = _network(PROGRAMS[name]), draw(3, 3, 8, 8, low=0, high=1, seed=1)
    predict = models.from_torch(network, channels=3, image_size=8)
    found = jax.jit(jax.vmap(predict))(jnp.asarray(images.transpose(0, 2, 3, 1)))
    expected = [network(import_torch().from_numpy(image[None]))[0].numpy() for image in images]
    close(np.asarray(found), np.stack(expected), 2e-6)


def test_attention_that_drops_out_is_refused_before_it_runs_in_torch():
    network = _network(lambda x: _attention(x, dropout_p=0.1))
    with pytest.raises(ValueError, match=r"scaled_dot_product_attention.* random numbers"):
        models.from_torch(network, channels=3, image_size=8)


def _standardised(names):
    """A network whose buffers are called as the operators of its graph are."""
    torch = import_torch()

    class Standardised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name in names:
                self.register_buffer(name, torch.tensor([3.0, 2.0, 5.0]))
            self.temperature = torch.nn.Parameter(torch.tensor(0.25), requires_grad=False)

        def forward(self, x):
            mean = x.mean((2, 3))
            scaled = (mean - getattr(self, names[0])) / getattr(self, names[1])
            return scaled.exp() * self.temperature.item()

    return Standardised().eval()


@pytest.mark.parametrize("names", [("mean", "sub"), ("mean", "exp"), ("first", "second")])
def test_weights_called_as_operators_are_not_taken_for_them(names):
    torch, network = import_torch(), _standardised(names)
    predict = models.from_torch(network, channels=3, image_size=8)
    image = np.moveaxis(IMAGE, 0, -1)
    expected = network(torch.from_numpy(IMAGE)[None])[0]
    close(predict(jnp.asarray(image)), expected, 1e-5)
    assert jnp.any(jax.grad(lambda x: predict(x).sum())(jnp.asarray(image)) != 0)
