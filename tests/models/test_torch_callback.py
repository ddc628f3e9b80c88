"""PyTorch modules through a callback, against PyTorch itself."""

import contextlib
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.models import from_torch
from tests.models.parity import draw_images, import_torch

torch = import_torch()
nn = torch.nn
SIDE = 16


class Counted(nn.Module):
    """A small classifier that counts its calls, and the images of each."""

    def __init__(self, channels=1, classes=3, *, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 4, 3, padding=1, dtype=dtype)
        self.norm = nn.BatchNorm2d(4, dtype=dtype)
        self.head = nn.Linear(4 * 16, classes, dtype=dtype)
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        x = nn.functional.avg_pool2d(self.norm(self.conv(x)).relu(), SIDE // 4)
        return 9 * self.head(x.flatten(1)) - 1


def callback(module, *, channels=1, image_size=SIDE):
    with pytest.warns(UserWarning, match=f"{type(module).__name__} is asked through a callback"):
        return from_torch(module.eval(), channels=channels, image_size=image_size, route="callback")


def of_torch(module, images, along):
    """Logits, and the gradient of their sum along something, by PyTorch."""
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    logits = module(x)
    (gradient,) = torch.autograd.grad(logits, x, torch.from_numpy(along))
    return logits.detach().numpy(), gradient.numpy().transpose(0, 2, 3, 1)


def along_of(n, classes=3, dtype=np.float32):
    return np.random.default_rng(2).normal(size=(n, classes)).astype(dtype)


@jax.jit
def both(predict, images, along):
    """Logits and gradients of a batch."""

    def one(image, along):
        logits, back = jax.vjp(predict, image)
        return logits, back(along)[0]

    return jax.vmap(one)(images, along)


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_and_gradients_are_exactly_those_of_torch(channels):
    module = Counted(channels)
    predict = callback(module, channels=channels)
    images, along = draw_images(5, SIDE, SIDE, channels), along_of(5)
    expected = of_torch(module, images, along)
    np.testing.assert_array_equal(jax.vmap(predict)(images), expected[0])
    for found, wanted in zip(both(predict, images, along), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_in_double_precision_too(x64):
    module = Counted(dtype=torch.float64)
    images, along = draw_images(2, SIDE, SIDE, 1).astype(float), along_of(2, dtype=float)
    for found, wanted in zip(
        both(callback(module), images, along), of_torch(module, images, along), strict=True
    ):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, wanted)


def test_a_grey_image_is_repeated_and_its_gradient_summed():
    module = Counted(3)
    images, along = draw_images(2, SIDE, SIDE, 1), along_of(2)
    logits, gradient = both(callback(module, channels=3), images, along)
    expected = of_torch(module, np.repeat(images, 3, axis=-1), along)
    np.testing.assert_allclose(logits, expected[0], rtol=1e-6)
    summed = expected[1].sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, summed, rtol=1e-4, atol=1e-6)


def test_one_call_for_a_batch_however_it_is_mapped():
    module = Counted()
    predict = callback(module)
    images = jnp.asarray(draw_images(6, SIDE, SIDE, 1))
    loop = jnp.stack([predict(image) for image in images])
    module.calls.clear()
    mapped = jax.jit(jax.vmap(predict))(images)
    twice = jax.vmap(jax.vmap(predict))(images.reshape(2, 3, SIDE, SIDE, 1))
    np.testing.assert_allclose(mapped, loop, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(twice.reshape(6, 3), loop, rtol=1e-4, atol=1e-6)
    assert module.calls == [6, 6]


def test_many_cotangents_of_one_image():
    module = Counted()
    predict, image = callback(module), jnp.asarray(draw_images(1, SIDE, SIDE, 1)[0])
    rows = [
        of_torch(module, np.asarray(image)[None], row[None])[1][0] for row in np.eye(3, dtype="f")
    ]
    np.testing.assert_allclose(jax.jacrev(predict)(image), np.stack(rows), rtol=1e-5, atol=1e-6)


ATTACK = bfjax.attacks.bias_field((SIDE, SIDE), degree=3, grid_size=4, num_steps=4)
LABELS = np.array([0, 1, 2])


@pytest.mark.slow
def test_an_attack_asks_once_a_step():
    module = Counted()
    images = draw_images(3, SIDE, SIDE, 1)
    predict = callback(module)
    module.calls.clear()
    result = bfjax.run_batch(ATTACK, predict, images, LABELS)
    assert module.calls == [3] * (ATTACK.num_steps + 1)  # then it is judged
    assert (result.trace.loss[:, -1] > result.trace.loss[:, 0]).all()
    judged = module(torch.from_numpy(np.asarray(result.adversarial).transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(result.logits, judged.detach(), rtol=1e-5)


@pytest.mark.slow
def test_run_and_its_stream_say_what_a_batch_says():
    predict, images = callback(Counted()), draw_images(3, SIDE, SIDE, 1)
    whole = bfjax.run_batch(ATTACK, predict, images, LABELS).adversarial
    mapped = jax.jit(jax.vmap(lambda x, y: bfjax.run(ATTACK, predict, x, y)))(images, LABELS)
    np.testing.assert_allclose(mapped.adversarial, whole, atol=1e-5)
    examples = zip(range(3), images, LABELS, strict=True)
    streamed = bfjax.attack.run_stream(ATTACK, predict, examples, batch_size=2)
    found = np.concatenate([done.result.adversarial for done in streamed])
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_the_module_stays_as_it_is():
    module = Counted()
    module.head.weight.requires_grad_(False)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    both(callback(module), draw_images(2, SIDE, SIDE, 1), along_of(2))
    wants = {name for name, p in module.named_parameters() if p.requires_grad}
    assert wants == {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.bias"}
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


def test_weights_are_read_at_each_call():
    module, image = Counted(), jnp.asarray(draw_images(1, SIDE, SIDE, 1)[0])
    predict = callback(module)
    before = jax.jit(predict)(image)
    with torch.no_grad():
        module.head.weight.mul_(2)
        module.head.bias.mul_(2)
    np.testing.assert_allclose(jax.jit(predict)(image), 2 * before + 1, rtol=1e-5)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, contextlib.nullcontext])
def test_gradients_in_whatever_mode_the_caller_is(around):
    module = Counted()
    images, along = draw_images(2, SIDE, SIDE, 1), along_of(2)
    with around():
        found = both(callback(module), images, along)
    np.testing.assert_array_equal(found[1], of_torch(module, images, along)[1])


class Shifts(Counted):
    """Normalises its input in place, as some networks do."""

    def forward(self, x):
        return super().forward(x.sub_(0.5).mul_(2))


def test_a_module_may_change_its_input():
    images, along = draw_images(2, SIDE, SIDE, 1), along_of(2)
    module, kept = Shifts(), images.copy()
    found = both(callback(module), jnp.asarray(images), along)
    expected = of_torch(Counted().eval(), 2 * (images - 0.5), along)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], 2 * expected[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(images, kept)


def test_threads_may_share_a_module():
    module = Counted()
    predict, found = callback(module), {}
    batches = {i: (draw_images(2, SIDE, SIDE, 1, seed=i), along_of(2)) for i in range(4)}

    def work(i):
        found[i] = [np.asarray(both(predict, *batches[i])[1]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, each in found.items():
        for gradient in each:
            np.testing.assert_array_equal(gradient, of_torch(module, *batches[i])[1])


def test_second_derivatives_are_refused():
    predict, image = callback(Counted()), jnp.asarray(draw_images(1, SIDE, SIDE, 1)[0])
    gradient = jax.grad(lambda x: predict(x)[0])
    with pytest.raises(ValueError, match=r"no second derivatives.*route='export'"):
        jax.grad(lambda x: (gradient(x) ** 2).sum())(image)
    with pytest.raises(ValueError, match="no second derivatives"):
        jax.jvp(gradient, (image,), (image,))


class Fails(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda x: x.missing, r"Fails fails on images \(2, 1, 16, 16\): .*no attribute 'missing'"),
        (lambda x: x.view(1, 256), r"Fails fails on images .* invalid for input of size 512"),
        (lambda x: "left", "returns a str, in which no logits are found"),
        (lambda x: x.mean((1, 2, 3)), r"must return logits, .* returns torch.float32 \(2,\)"),
        (lambda x: x.mean(0).flatten(1), r"returns torch.float32 \(1, 256\) for two images"),
        (lambda x: x.mean((2, 3)).argmax(1, keepdim=True), "returns torch.int64"),
    ],
)
def test_what_is_no_classifier_is_refused(answer, told):
    with pytest.raises(ValueError, match=told):
        from_torch(Fails(answer).eval(), channels=1, image_size=SIDE, route="callback")


def test_a_module_in_training_is_refused_then_and_later():
    module = Counted().train()
    with pytest.raises(ValueError, match=r"is in training mode: call its \.eval\(\) first"):
        from_torch(module, channels=1, image_size=SIDE, route="callback")
    predict = callback(module)
    module.norm.train()
    with pytest.raises(Exception, match="is in training mode"):
        jax.block_until_ready(jax.jit(predict)(jnp.zeros((SIDE, SIDE, 1))))


def test_without_a_gradient_there_is_no_attack():
    @torch.no_grad()
    def blind(x):
        return x.mean((2, 3))

    predict = callback(Fails(blind))
    with pytest.raises(Exception, match="Fails has no gradient"):
        jax.block_until_ready(jax.grad(lambda x: predict(x)[0])(jnp.ones((SIDE, SIDE, 1))))


def test_what_it_takes_is_to_be_said():
    with pytest.raises(ValueError, match=r"as in channels=3, image_size=224: channels is None"):
        from_torch(Counted().eval(), image_size=SIDE, route="callback")
    with pytest.raises(ValueError, match="image_size is None"):
        from_torch(Counted().eval(), channels=1, route="callback")
    with pytest.raises(ValueError, match="route is 'export' or 'callback', got 'onnx'"):
        from_torch(Counted().eval(), channels=1, image_size=SIDE, route="onnx")


def test_the_logits_of_a_mapping_are_taken():
    predict = callback(Fails(lambda x: {"hidden": x, "logits": x.mean((2, 3))}))
    assert predict(jnp.full((SIDE, SIDE, 1), 0.25)).tolist() == [0.25]


@pytest.mark.slow
def test_an_exported_program_of_any_batch_is_asked_too():
    layers = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    module, example = nn.Sequential(*layers).eval(), (torch.zeros(2, 1, SIDE, SIDE),)
    images, along = draw_images(3, SIDE, SIDE, 1), along_of(3)
    program = torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim("n")},))
    with pytest.warns(UserWarning, match="ExportedProgram is asked through a callback"):
        predict = from_torch(program, channels=1, image_size=SIDE, route="callback")
    for found, wanted in zip(
        both(predict, images, along), of_torch(module, images, along), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"ExportedProgram fails on images \(2, 1, 16, 16\)"):
        from_torch(
            torch.export.export(module, (torch.zeros(1, 1, SIDE, SIDE),)),
            channels=1, image_size=SIDE, route="callback",
        )  # fmt: skip


def test_it_gets_the_range_that_it_was_trained_on():
    module, images = Counted(3).eval(), draw_images(2, SIDE, SIDE, 1)
    options = {"input_range": (0, 255), "mean": (100, 110, 120), "std": (50, 60, 70)}
    with pytest.warns(UserWarning, match="through a callback"):
        predict = from_torch(module, channels=3, image_size=SIDE, route="callback", **options)
    x = (255 * images - np.float32([100, 110, 120])) / np.float32([50, 60, 70])
    expected = of_torch(module, x, along_of(2))[0]
    np.testing.assert_allclose(jax.vmap(predict)(images), expected, rtol=1e-4, atol=1e-5)


def test_other_channels_are_refused():
    predict = callback(Counted(3), channels=3)
    with pytest.raises(ValueError, match=r"takes 3 channels, the image is \(16, 16, 4\)"):
        predict(jnp.zeros((SIDE, SIDE, 4)))


AHEAD = """
import os, warnings
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, torch
from bfjax.models import from_torch
warnings.simplefilter("ignore")
net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()).eval()
predict = from_torch(net, channels=1, image_size=224, route="callback")
images = jax.random.uniform(jax.random.key(0), (16, 224, 224, 1))
step = jax.jit(jax.vmap(lambda x: x + jax.grad(lambda z: (predict(jnp.tanh(z)) ** 2).sum())(x)))
for _ in range(20):
    other, images = step(images + 1), step(images)
print(jnp.isfinite(images).all(), other.shape)
"""


@pytest.mark.slow
def test_large_batches_that_are_dispatched_ahead_on_one_processor_do_not_wait_for_each_other():
    done = subprocess.run(
        [sys.executable, "-c", AHEAD], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["True", "(16,", "224,", "224,", "1)"]


SPLIT = """
import warnings
import jax, numpy as np, torch
from bfjax.data import feed
from bfjax.models import from_torch
warnings.simplefilter("ignore")
net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()).eval()
predict = from_torch(net, channels=1, image_size=8, route="callback")
images = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)
step = jax.jit(jax.vmap(jax.grad(lambda x: (predict(x) ** 2).sum())))
one, two = step(images), step(jax.device_put(images, feed.split_locally()))
assert len(two.sharding.device_set) == 2
print(np.abs(np.asarray(one) - np.asarray(two)).max())
"""


@pytest.mark.slow
def test_a_batch_may_lie_on_several_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", SPLIT], capture_output=True, text=True, timeout=120,
        env=os.environ | flags, check=True,
    )  # fmt: skip
    assert float(done.stdout) == 0
