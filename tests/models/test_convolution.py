"""The fast formulations against XLA's own convolution, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bfjax.models.convolution import channel_sum, conv2d, depthwise_conv2d, resolve_padding

NHWC = ("NHWC", "HWIO", "NHWC")


def plain(x, kernel, *, stride=1, padding="same"):
    """What both functions should compute, straight from XLA, for a batch."""
    pads = {"same": "SAME", "valid": "VALID"}.get(padding, [(padding, padding)] * 2)
    groups = x.shape[-1] if kernel.ndim == 3 else 1
    kernel = kernel[:, :, None] if kernel.ndim == 3 else kernel
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=NHWC, feature_group_count=groups
    )


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def value_and_gradients(function, x, kernel, cotangent):
    def both(x, kernel, cotangent):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(cotangent)

    return jax.jit(both)(x, kernel, cotangent)


CASES = [
    # (h, w), kernel, stride, padding; odd and even sizes, all ways that a stride can divide
    ((9, 12), (3, 3), 1, "same"),
    ((9, 12), (3, 3), 2, "same"),
    ((8, 7), (3, 3), 2, 1),
    ((7, 7), (3, 3), 3, "valid"),
    ((3, 3), (3, 3), 2, "valid"),
    ((11, 10), (7, 7), 2, 3),
    ((6, 9), (2, 5), 2, "same"),
    ((9, 8), (1, 1), 1, "same"),
    ((9, 8), (1, 1), 2, "same"),
    ((9, 8), (1, 1), 2, 1),
]


@pytest.mark.parametrize("kind", ["full", "depthwise"])
@pytest.mark.parametrize(("size", "window", "stride", "padding"), CASES)
def test_equals_xla(kind, size, window, stride, padding):
    full = kind == "full"
    ours = conv2d if full else depthwise_conv2d
    x, kernel = draw(2, *size, 3), draw(*window, 3, *((4,) if full else ()), seed=1)
    expected = plain(x, kernel, stride=stride, padding=padding)
    cotangent = draw(*expected.shape, seed=2)
    found = value_and_gradients(
        lambda x, k: ours(x, k, stride=stride, padding=padding), x, kernel, cotangent
    )
    wanted = value_and_gradients(
        lambda x, k: plain(x, k, stride=stride, padding=padding), x, kernel, cotangent
    )
    for ours_, theirs in zip(found, wanted, strict=True):
        assert ours_.shape == theirs.shape
        np.testing.assert_allclose(ours_, theirs, rtol=1e-5, atol=1e-5 * abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["full", "pointwise", "depthwise"])
def test_one_image_vmap_and_scan_agree_with_a_batch(kind, stride):
    ours = depthwise_conv2d if kind == "depthwise" else conv2d
    shape = {"full": (3, 3, 3, 3), "pointwise": (1, 1, 3, 3), "depthwise": (3, 3, 3)}[kind]
    x, kernel = draw(3, 7, 8, 3), draw(*shape, seed=1)

    def energy(x, kernel):
        return jnp.sum(jnp.sin(ours(x, kernel, stride=stride)))

    whole = jax.jit(jax.grad(energy))(x, kernel)
    each = jax.jit(jax.vmap(jax.grad(energy), (0, None)))(x, kernel)
    one = jax.grad(energy)(x[1], kernel)
    _, scanned = jax.jit(
        lambda x, kernel: lax.scan(lambda _, x: (None, jax.grad(energy)(x, kernel)), None, x)
    )(x, kernel)
    reference = jax.grad(lambda x: jnp.sum(jnp.sin(plain(x, kernel, stride=stride))))(x)
    for gradient in (whole, each, scanned):
        np.testing.assert_allclose(gradient, reference, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one, reference[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "depthwise"])
def test_bfloat16_stays_bfloat16(kind):
    ours, shape = (conv2d, (3, 3, 4, 5)) if kind == "full" else (depthwise_conv2d, (3, 3, 4))
    x, kernel = draw(1, 9, 9, 4), draw(*shape, seed=1)
    expected = value_and_gradients(
        lambda x, k: plain(x, k, stride=2), x, kernel, jnp.ones((1, 5, 5, shape[-1]))
    )
    found = value_and_gradients(
        lambda x, k: ours(x, k, stride=2),
        x.astype(jnp.bfloat16),
        kernel.astype(jnp.bfloat16),
        jnp.ones((1, 5, 5, shape[-1]), jnp.bfloat16),
    )
    for low, high in zip(found, expected, strict=True):
        assert low.dtype == jnp.bfloat16
        np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.02 * abs(high).max())


def test_no_gradient_of_an_image_needs_a_reversed_or_grouped_convolution():
    """The two forms for which XLA's CPU backend has only a naive loop."""

    def energy(x, kernel, depthwise):
        return jnp.sum(depthwise_conv2d(conv2d(x, kernel, stride=2), depthwise) ** 2)

    arguments = draw(1, 8, 8, 3), draw(3, 3, 3, 4), draw(3, 3, 4)
    of_image, of_kernel = (
        str(jax.make_jaxpr(jax.grad(energy, i))(*arguments)).count("= conv_general_dilated[")
        for i in (0, 1)
    )
    assert of_image == 2 < of_kernel  # what nobody asks for is not even traced
    text = jax.jit(jax.grad(energy)).lower(*arguments).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 2
    assert not any("reverse = [true" in line for line in convolutions)
    assert not any("feature_group_count = 4" in line for line in convolutions)


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 7, 5, 2), (2, 3, 8, 4, 2), (13, 3, 2)])
def test_channel_sum(shape):
    x = draw(*shape)
    np.testing.assert_allclose(channel_sum(x), x.reshape(-1, 2).sum(0), rtol=1e-5, atol=1e-5)


def test_channel_sum_of_bfloat16_is_taken_in_float32():
    assert channel_sum(jnp.full((64, 64, 1), 0.1, jnp.bfloat16))[0] == pytest.approx(410, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("full", (8, 8), (3, 3), 1), "'full'"),
        ((-1, (8, 8), (3, 3), 1), "-1"),
        (((1, -1), (8, 8), (3, 3), 1), r"\(rows, columns\) .*, got \(1, -1\)"),
        (("same", (8, 8), (3, 3), 0), "stride must be at least 1, got 0"),
        (("valid", (2, 8), (3, 3), 1), "kernel of 3 does not fit 2 pixels"),
    ],
)
def test_bad_padding_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve_padding(*arguments)


def test_a_kernel_for_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 3, 4, 2\) does not fit an input \(8, 8, 3\)"):
        conv2d(jnp.zeros((8, 8, 3)), jnp.zeros((3, 3, 4, 2)))


def test_layers_of_one_size_are_one_function_of_the_program():
    """What grows with the layers is traced, lowered and read from the cache as often."""

    def energy(x, kernels):
        for kernel in kernels:
            x = depthwise_conv2d(x, kernel)
        return jnp.sum(x)

    def length(layers):
        kernels = draw(layers, 3, 3, 4)
        lowered = jax.jit(jax.vmap(jax.grad(energy), (0, None))).lower(draw(2, 8, 8, 4), kernels)
        return lowered.as_text().count("\n")

    assert length(4) - length(3) < 15  # the nine products of a layer alone are more
