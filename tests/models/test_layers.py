import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bfjax.models.layers import BatchNorm, Bias, ConvNorm, check_image, relu6


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.slow
def test_batch_norm_trains_as_flax_does():
    theirs = nnx.BatchNorm(5, momentum=0.9, epsilon=1e-3, use_fast_variance=False, rngs=nnx.Rngs(0))
    ours = BatchNorm(5, epsilon=1e-3, momentum=0.9)
    for norm in (theirs, ours):
        norm.scale[...], norm.bias[...] = draw(5, seed=1), draw(5, seed=2)
    x, weights = 3 + 2 * draw(4, 6, 7, 5), draw(4, 6, 7, 5, seed=3)

    def gradients(norm, **how):
        def loss(params, x):
            model = nnx.merge(graph, params, rest, copy=True)
            return jnp.sum(weights * jnp.sin(model(x, **how)))

        graph, params, rest = nnx.split(norm, nnx.Param, ...)
        return jax.grad(loss, (0, 1))(params, x)

    with jax.numpy_rank_promotion("allow"):  # flax's own code
        expected = gradients(theirs, use_running_average=False)
        y = theirs(x, use_running_average=False)
        running = theirs.mean[...], theirs.var[...]
        still = theirs(x, use_running_average=True)
    found = gradients(ours, training=True)
    np.testing.assert_allclose(found[0]["scale"][...], expected[0]["scale"][...], rtol=1e-3)
    np.testing.assert_allclose(found[0]["bias"][...], expected[0]["bias"][...], rtol=1e-3)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    np.testing.assert_allclose(ours(x, training=True), y, atol=1e-5)
    np.testing.assert_allclose(ours.mean[...], running[0], rtol=1e-5)
    np.testing.assert_allclose(ours.var[...], running[1], rtol=1e-4)
    np.testing.assert_allclose(ours(x), still, atol=1e-5)


def test_relu6_and_its_gradient_at_the_corners():
    x = jnp.asarray([-1.0, 0.0, 3.0, 6.0, 7.0])
    np.testing.assert_array_equal(relu6(x), [0, 0, 3, 6, 6])
    np.testing.assert_array_equal(jax.vmap(jax.grad(relu6))(x), [0, 0, 1, 0, 0])


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (1, 1, 2, 4), (3, 3, 2)])
def test_folding_changes_nothing_but_the_form(shape):
    layer = ConvNorm(shape, stride=2, epsilon=1e-3, momentum=0.9)
    c = shape[-1]
    layer.kernel[...] = draw(*shape)
    layer.norm.scale[...], layer.norm.bias[...] = draw(c, seed=1), draw(c, seed=2)
    layer.norm.mean[...], layer.norm.var[...] = draw(c, seed=3), jnp.exp(draw(c, seed=4))
    x = draw(9, 8, 2, seed=5)
    before = layer(x)
    layer.fold()
    assert isinstance(layer.norm, Bias)
    np.testing.assert_allclose(layer(x), before, atol=1e-5 * abs(before).max())
    layer.fold()  # a second time: nothing left to fold
    np.testing.assert_allclose(layer(x), before, atol=1e-5 * abs(before).max())
    with pytest.raises(ValueError, match="frozen"):
        layer(x, training=True)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "stride"), [((3, 3, 64, 64), 1), ((3, 3, 64, 64), 2)])
def test_folding_may_change_the_form_of_wide_kernels_only(shape, stride):
    layer = ConvNorm(shape, stride=stride, padding=1, epsilon=1e-3, momentum=0.9)
    layer.kernel[...] = draw(*shape)
    layer.norm.scale[...], layer.norm.var[...] = draw(64, seed=1), jnp.exp(draw(64, seed=4))
    x = draw(9, 8, 64, seed=5)
    before, plain_gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(layer(x))))(x)
    layer.fold(transform=True)
    assert layer.kernel[...].shape == ((36, 64, 64) if stride == 1 else shape)
    after, gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(layer(x))))(x)
    np.testing.assert_allclose(after, before, rtol=1e-2)
    np.testing.assert_allclose(gradient, plain_gradient, atol=1e-2 * abs(plain_gradient).max())
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((40, 40), 1, r"\(40, 40\)"),
        ((40, 40, 2), 1, r"\(40, 40, 2\)"),
        ((40, 31, 1), 1, r"at least 32 x 32 pixels, got \(40, 31, 1\)"),
        ((40, 40, 3), 1, r"takes grey images \(h, w, 1\), got \(40, 40, 3\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_images_that_do_not_fit_are_refused(shape, channels, message):
    with pytest.raises(ValueError, match=message):
        check_image(jnp.zeros(shape), channels=channels)


def test_a_grey_image_becomes_three_equal_channels():
    image = draw(32, 33, 1)
    seen = check_image(image, channels=3)
    np.testing.assert_array_equal(seen, np.repeat(image, 3, axis=-1))
