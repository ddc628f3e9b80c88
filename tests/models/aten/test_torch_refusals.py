"""Networks that from_torch refuses, each in one line with the way out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models import from_torch
from tests.models.parity import draw_images, import_torch

torch = import_torch()
from torch import nn  # noqa: E402

OPTIONS = {"channels": 1, "image_size": 8}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.head = nn.Linear(64, 3)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        return self.function(self, x)


def logits(module, x):
    return module.head(x.flatten(1))


def module(function=logits):
    return Function(function).eval()


def export(function=logits, batch=1, **options):
    return torch.export.export(module(function), (torch.zeros(batch, 1, 8, 8),), **options)


def count(module, x):
    module.count += 1
    return logits(module, x) * module.count


def untranslated(module, x):
    lengths = torch.linalg.svdvals(x) + torch.linalg.svdvals(x + 1)
    return logits(module, lengths[..., None] + torch.linalg.inv(x))


def branching(module, x):
    return logits(module, x if x.sum() > 0 else -x)


def cutting(module, x):
    with torch.no_grad():
        shift = x.mean()
    return logits(module, x - shift)


REFUSED = {
    "branch": (branching, 'cannot export .*data-dependent.*route="callback"'),
    "shape": (lambda m, x: m.head(x[x > 0][None]), 'route="callback"'),
    "selected": (lambda m, x: x[x > 0][None], "shape or number that the image decides"),
    "item": (lambda m, x: logits(m, x) * x.sum().item(), "shape or number that the image decides"),
    "numpy": (lambda m, x: torch.from_numpy(x.detach().numpy()), "cannot export .*callback"),
    "buffers": (count, r"changes its own buffers \(count\).*callback"),
    "detached": (lambda m, x: logits(m, x - x.detach()), "cuts gradients .*callback"),
    "no_grad": (cutting, "cuts gradients .*callback"),
    "random": (lambda m, x: logits(m, x + torch.rand_like(x)), "aten.rand_like.*random numbers"),
    "random table": (
        lambda m, x: logits(m, x + torch.rand(1, 1, 8, 8)),
        "aten.rand.*random numbers",
    ),
    "memory of another": (
        lambda m, x: logits(
            m, torch.cat([x, x], 1)[:, 1:].as_strided((1, 1, 8, 8), (64, 64, 8, 1), 0)
        ),
        "the memory of",
    ),
    "memory": (
        lambda m, x: logits(m, x.mT.as_strided((1, 1, 8, 8), (64, 64, 1, 8))),
        "the memory of",
    ),
    "mask": (
        lambda m, x: logits(m, x.index_put((x < 2,), torch.zeros(64))),
        r"no form in JAX \(ValueError: a mask of shape \(1, 1, 8, 8\).*callback",
    ),
    "failing": (
        lambda m, x: logits(m, x.index_put((x > 2,), torch.zeros(3))),
        r"fails in PyTorch itself \(\w+Error: ",
    ),
    "map": (lambda m, x: x, r"float32 \(1, 1, 8, 8\) for one image, not logits"),
    "classes": (lambda m, x: logits(m, x).argmax(1), "int64 .* not logits"),
    "dict": (lambda m, x: {"a": x, "b": x}, "returns a dict with a, b, in which no logits"),
    "text": (lambda m, x: "text", "returns a str, in which no logits"),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=REFUSED)
def test_a_torch_network_that_cannot_be_read_is_refused_in_one_line(function, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_torch(module(function), **OPTIONS)
    assert "\n" not in str(caught.value)


def test_all_torch_operators_without_a_translation_are_named_at_once():
    with pytest.raises(
        ValueError,
        match=r"_linalg_svd\S* \(2\), aten.linalg_inv\S* \(1\): leave them out, .*callback",
    ):
        from_torch(module(untranslated), **OPTIONS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 1}, "image_size is None"),
        ({"image_size": 8}, "channels is None"),
        ({"channels": 2, "image_size": 8}, "channels is 2"),
        ({"channels": 1, "image_size": 0}, "image_size is 0"),
        ({**OPTIONS, "route": "onnx"}, "route is 'export' or 'callback', got 'onnx'"),
    ],
)
def test_what_is_said_of_a_torch_network_must_be_possible(options, message):
    with pytest.raises(ValueError, match=message):
        from_torch(module(), **options)


def test_a_torch_network_in_training_mode_is_refused():
    network = module()
    network.train()
    with pytest.raises(ValueError, match=r"training mode: call its .eval\(\)"):
        from_torch(network, **OPTIONS)
    network.eval()
    network.head.train()
    with pytest.raises(ValueError, match=r"parts are in training mode \(head\)"):
        from_torch(network, **OPTIONS)
    normed = nn.Sequential(nn.Conv2d(1, 2, 4), nn.BatchNorm2d(2), nn.Flatten())
    exported = torch.export.export(normed, (torch.zeros(1, 1, 8, 8),))
    with pytest.raises(ValueError, match=r"changes its own buffers \(1.running_mean.*evaluation"):
        from_torch(exported)


def test_a_torch_network_of_two_inputs_is_refused():
    class Two(nn.Module):
        def forward(self, image, age):
            return image.flatten(1) * age

    with pytest.raises(ValueError, match=r"takes 2 inputs \(image, age\)"):
        from_torch(Two().eval(), **OPTIONS)
    example = (torch.zeros(1, 1, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match=r"takes 2 inputs \(image, age\)"):
        from_torch(torch.export.export(Two().eval(), example))
    with pytest.raises(ValueError, match=r"takes 2 inputs \(image, 2\.0\)"):
        from_torch(torch.export.export(Two().eval(), (example[0], 2.0)))


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_torch_network_is_refused():
    with pytest.raises(ValueError, match=r"dict is no torch\.nn\.Module"):
        from_torch(dict(module().state_dict()), **OPTIONS)
    with pytest.raises(ValueError, match="device 'meta'"):
        from_torch(module().to("meta"), **OPTIONS)


def test_an_image_of_another_size_is_refused_by_a_torch_network():
    predict = from_torch(module(), **OPTIONS)
    with pytest.raises(ValueError, match=r"read for images \(8, 8, 1\), got \(8, 9, 1\)"):
        predict(jnp.zeros((8, 9, 1)))
    with pytest.raises(ValueError, match=r"\(8, 8, 1\), got \(8, 8, 3\)"):
        predict(jnp.zeros((8, 8, 3)))


def test_a_torch_program_says_what_it_takes():
    program = export()
    image = jnp.asarray(draw_images(8, 8, 1))
    expected = from_torch(program)(image)
    np.testing.assert_array_equal(from_torch(program, **OPTIONS)(image), expected)
    with pytest.raises(ValueError, match=r"exported for images \(1, 8, 8\): image_size is 9"):
        from_torch(program, channels=1, image_size=9)
    with pytest.raises(ValueError, match=r"\(1, 8, 8\): channels is 3"):
        from_torch(program, channels=3)
    with pytest.raises(ValueError, match=r"exported for 2 images at a time.*torch.export.Dim"):
        from_torch(export(batch=2))


def test_a_torch_program_of_any_batch_and_size_is_read():
    pooled = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    dims = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(pooled, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=(dims,))
    with pytest.raises(ValueError, match="image_size is"):
        from_torch(program)
    image = draw_images(12, 9, 1)
    found = from_torch(program, image_size=(12, 9))(jnp.asarray(image))
    expected = pooled(torch.from_numpy(image.transpose(2, 0, 1))[None])[0]
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: Output(logits(m, x), x),
        lambda m, x: {"hidden": x, "logits": logits(m, x)},
        lambda m, x: {"out": logits(m, x)},
        lambda m, x: (logits(m, x), x),
        lambda m, x: [logits(m, x), {"auxiliary": x}],
        lambda m, x: logits(m, x).squeeze(),
    ],
    ids=["object", "mapping", "one", "tuple", "list", "squeezed"],
)
def test_the_logits_are_found_in_what_a_torch_network_returns(function):
    network = module(function)
    image = draw_images(8, 8, 1)
    expected = logits(network, torch.from_numpy(image.transpose(2, 0, 1))[None])[0]
    found = from_torch(network, **OPTIONS)(jnp.asarray(image))
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)


def test_one_logit_of_a_torch_network_is_a_vector():
    predict = from_torch(module(lambda m, x: logits(m, x)[:, 0]), **OPTIONS)
    assert jax.eval_shape(predict, jnp.zeros((8, 8, 1))).shape == (1,)


@pytest.mark.usefixtures("unchecked")
def test_what_a_torch_network_expects_may_be_arrays():
    options = {"input_range": (0, 1), "mean": (0.4, 0.5, 0.6), "std": (1, 2, 3)}
    arrays = {name: np.array(numbers) for name, numbers in options.items()}
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    image = jnp.asarray(draw_images(8, 8, 3))
    found, expected = (
        from_torch(pooled, channels=3, image_size=8, **numbers)(image)
        for numbers in (arrays, options)
    )
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="input_range is 'XRV': two numbers"):
        from_torch(pooled, channels=3, image_size=8, input_range="XRV")


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double"])
def test_a_torch_network_of_another_precision_is_read_in_float32(kind):
    network = getattr(module(), kind)()
    image = draw_images(8, 8, 1)
    expected = logits(network.double(), torch.from_numpy(image).double().reshape(1, 64))[0]
    network = getattr(network, kind)()
    found = from_torch(network, **OPTIONS)(jnp.asarray(image))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-5)
    assert network.head.weight.dtype == getattr(torch, {"half": "float16"}.get(kind, kind))
    exported = torch.export.export(
        network, (torch.zeros(1, 1, 8, 8, dtype=network.head.weight.dtype),)
    )
    with pytest.raises(ValueError, match=r"takes images of torch.*module.float\(\)"):
        from_torch(exported)


class Rounds(torch.autograd.Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, slope):
        return slope


class Swish(torch.autograd.Function):
    """Saves its input alone, as EfficientNets do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return slope * gate * (1 + x * (1 - gate))


def test_a_torch_function_with_another_gradient_is_refused():
    apply = Rounds.apply  # named before anything is read
    network = module(lambda m, x: logits(m, apply(4 * x)))
    with pytest.raises(ValueError, match=r"autograd.Function \(Rounds\) .*callback"):
        from_torch(network, **OPTIONS)
    with torch.inference_mode(), pytest.raises(ValueError, match="Rounds"):
        from_torch(network, **OPTIONS)
    with pytest.warns(UserWarning, match="through a callback"):
        predict = from_torch(network, **OPTIONS, route="callback")
    slope = jax.grad(lambda image: predict(image)[0])(jnp.asarray(draw_images(8, 8, 1)))
    np.testing.assert_allclose(slope.ravel(), 4 * network.head.weight[0].detach(), rtol=1e-5)


def test_a_torch_function_with_its_own_gradient_is_read():
    network = module(lambda m, x: logits(m, Swish.apply(x)))
    x = torch.from_numpy(draw_images(8, 8, 1)).requires_grad_()
    network(x[None])[0, 0].backward()
    predict = from_torch(network, **OPTIONS)
    found = jax.grad(lambda image: predict(image)[0])(jnp.asarray(x.detach().numpy()))
    np.testing.assert_allclose(found, x.grad, rtol=1e-5, atol=1e-7)


def test_what_depends_on_no_image_is_computed_by_torch():
    table = torch.arange(64.0).reshape(8, 8)

    def positions(m, x):
        places = torch.fft.fft2(table).real + torch.arange(8)  # no operator of ours
        return logits(m, x + torch.log1p(places.abs()))

    network = module(positions)
    image = draw_images(8, 8, 1)
    expected = network(torch.from_numpy(image.transpose(2, 0, 1))[None])[0]
    found = from_torch(network, **OPTIONS)(jnp.asarray(image))
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-5)
