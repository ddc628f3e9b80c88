import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.field import clip
from tests.oracles import check_gradients, jittered

SHAPE = (8, 10)


def _image(channels=1, dtype=np.float32, seed=0):
    image = np.random.default_rng(seed).uniform(0, 1, (*SHAPE, channels)).astype(dtype)
    image[0], image[-1] = 0, 1  # black and white borders lie exactly on the bounds
    return jnp.asarray(image)


def _field(**options):
    return bfjax.polynomial_tps(SHAPE, degree=4, grid_size=4, **options)


def _random(field, scale=0.3, seed=0):
    return jittered(field.init(), scale, seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_change": 0.1},
        {"offset": 0.05},
        {"max_log_field": 1},
        {"max_log_field": 1, "saturation": "tanh"},
        {"encoding": "log"},
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_identity_gives_back_exactly_the_image(channels, options, dtype):
    field, image = _field(), _image(channels).astype(dtype)
    perturbation = bfjax.bias_field(field, **options)
    perturbed = perturbation.apply(perturbation.init(image, None), image)
    assert perturbed.dtype == dtype
    assert (perturbed == image).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_apply_is_the_product_clipped(channels):
    field, image = _field(), _image(channels)
    params = _random(field)
    log_field = np.asarray(field.log_field(params), np.float64)[..., None]
    x = np.asarray(image, np.float64)
    for options, expected in [
        ({}, np.clip(x * np.exp(log_field), 0, 1)),
        ({"max_change": 0.1}, np.clip(np.clip(x * np.exp(log_field), x - 0.1, x + 0.1), 0, 1)),
        ({"max_log_field": 0.2}, np.clip(x * np.exp(np.clip(log_field, -0.2, 0.2)), 0, 1)),
        ({"offset": 0.1}, np.clip((x + 0.1) * np.exp(log_field) - 0.1, 0, 1)),
        (
            {"max_log_field": 0.2, "saturation": "tanh"},
            np.clip(x * np.exp(0.2 * np.tanh(log_field / 0.2)), 0, 1),
        ),
        ({"encoding": "log"}, np.clip(x - 0.29 * log_field, 0, 1)),
        ({"encoding": "log", "gamma": 0.5}, np.clip(x - 0.5 * log_field, 0, 1)),
        (
            {"encoding": "log", "max_change": 0.05, "max_log_field": 0.4},
            np.clip(np.clip(x - 0.29 * np.clip(log_field, -0.4, 0.4), x - 0.05, x + 0.05), 0, 1),
        ),
    ]:
        perturbed = bfjax.bias_field(field, **options).apply(params, image)
        np.testing.assert_allclose(perturbed, expected, atol=2e-6)


@pytest.mark.parametrize("options", [{}, {"offset": 0.1}, {"encoding": "log"}])
def test_unclipped_is_the_product_whatever_bounds_there_are(options):
    field, image = _field(), _image(3)
    params = _random(field)
    x, b = (np.asarray(a, np.float64) for a in (image, field.log_field(params)[..., None]))
    bounds = {"max_change": 0.1, "max_log_field": 0.2}
    made = bfjax.bias_field(field, **options, **bounds).unclipped(params, image)
    offset = options.get("offset", 0)
    expected = x - 0.29 * b if "encoding" in options else (x + offset) * np.exp(b) - offset
    assert expected.max() > 1
    np.testing.assert_allclose(made, expected, atol=1e-5)
    clipped = bfjax.bias_field(field, **options).apply(params, image)
    np.testing.assert_allclose(np.clip(made, 0, 1), clipped, atol=1e-6)


def test_more_exposure_is_brighter_in_one_encoding_and_darker_in_the_other():
    field, image = bfjax.pixelwise((1, 1)), jnp.full((1, 1, 1), 0.5)
    more = jnp.asarray([[0.2]])
    assert bfjax.bias_field(field).apply(more, image).item() == pytest.approx(0.5 * np.exp(0.2))
    darker = bfjax.bias_field(field, encoding="log").apply(more, image).item()
    assert darker == pytest.approx(0.5 - 0.29 * 0.2)


def test_the_default_gamma_is_a_decade_and_a_half_over_the_greys():
    """X = 1 − log10(E / E0) / 1.5, so a factor e of exposure is 1 / (1.5 ln 10) grey levels."""
    gamma = inspect.signature(bfjax.bias_field).parameters["gamma"].default
    assert gamma == pytest.approx(1 / (1.5 * np.log(10)), abs=5e-4)


def test_a_black_pixel_has_a_gradient_in_a_log_encoding():
    field = bfjax.pixelwise((1, 1))
    apply = bfjax.bias_field(field, encoding="log").apply
    for value, expected in ((0.0, -0.29), (1.0, -0.29)):
        image = jnp.full((1, 1, 1), value)
        slope = jax.grad(lambda b, image=image: apply(b, image).sum())(field.init())
        assert slope.item() == pytest.approx(expected)


def test_tanh_has_a_gradient_where_clip_has_none():
    field, image = bfjax.pixelwise((1, 1)), jnp.full((1, 1, 1), 0.5)
    for saturation in ("clip", "tanh"):
        bounded = bfjax.bias_field(field, max_log_field=0.2, saturation=saturation)
        slope = jax.grad(lambda b, p=bounded: p.apply(b, image).sum())(jnp.asarray([[0.3]]))
        assert (slope.item() > 0) == (saturation == "tanh")


def test_black_stays_black_unless_there_is_an_offset():
    field, image = _field(), _image()
    params = _random(field, 1.0)
    assert (bfjax.bias_field(field).apply(params, image)[0] == 0).all()
    assert (bfjax.bias_field(field, offset=0.1).apply(params, image)[0] > 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
@pytest.mark.parametrize("max_change", [None, 0.1])
def test_everything_is_finite_for_huge_parameters(size, max_change):
    field = bfjax.polynomial_tps(SHAPE, degree=10, min_degree=0, grid_size=4)
    perturbation, image = bfjax.bias_field(field, max_change=max_change), _image()
    rng = np.random.default_rng(0)
    for _ in range(5):
        params = jax.tree.map(
            lambda p, bound: jnp.asarray(rng.choice([-bound, 0, bound], p.shape), p.dtype),
            field.init(),
            bfjax.field.PolynomialTPSParams(size, 2.0),
        )
        perturbed, pullback = jax.vjp(perturbation.apply, params, image)
        assert ((perturbed >= 0) & (perturbed <= 1)).all()
        for gradient in jax.tree.leaves(pullback(jnp.ones_like(perturbed))):
            assert jnp.isfinite(gradient).all()


@pytest.mark.slow
def test_gradient_is_finite_differences_away_from_the_bounds(x64):
    field = _field(dtype=jnp.float64)
    image = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.5, (*SHAPE, 1)))
    apply = bfjax.bias_field(field).apply
    for params in (field.init(), _random(field, 0.05)):
        check_gradients(lambda p: apply(p, image), (params,), order=1, modes=["rev"], eps=1e-6)


def test_clip_passes_the_whole_gradient_on_the_closed_interval():
    slope = jax.vmap(jax.grad(clip), in_axes=(0, None, None))
    x = jnp.asarray([-0.5, 0.0, 0.5, 1.0, 1.5])
    np.testing.assert_array_equal(slope(x, 0.0, 1.0), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(clip(x, 0.0, 1.0), np.clip(x, 0, 1))
    assert jnp.isnan(clip(jnp.asarray(jnp.nan), 0.0, 1.0))


def test_a_white_pixel_keeps_its_gradient_at_the_identity():
    field = bfjax.pixelwise((1, 1))
    apply = bfjax.bias_field(field, max_change=0.1).apply
    gradient = jax.grad(lambda b: apply(b, jnp.ones((1, 1, 1))).sum())(field.init())
    assert gradient.item() == 1


def test_jit_is_eager_and_vmap_is_a_loop():
    perturbation = bfjax.bias_field(_field(), max_change=0.1)
    images = jnp.stack([_image(seed=s) for s in range(3)])
    params = [_random(_field(), seed=s) for s in range(3)]
    batch = jax.tree.map(lambda *p: jnp.stack(p), *params)
    loop = jnp.stack([perturbation.apply(p, x) for p, x in zip(params, images, strict=True)])
    together = jax.jit(jax.vmap(perturbation.apply))(batch, images)
    np.testing.assert_allclose(together, loop, atol=1e-5)


def test_random_start_needs_a_key_and_stays_in_its_box():
    field, image = _field(), _image()
    perturbation = bfjax.bias_field(field, start_noise=0.25)
    with pytest.raises(ValueError, match="key"):
        perturbation.init(image, None)
    start = perturbation.init(image, jax.random.key(0))
    moved = jax.tree.map(lambda p, p0: abs(p - p0), start, field.init())
    assert all(m.max() <= 0.25 + 1e-6 for m in jax.tree.leaves(moved))
    assert moved.control_points.max() > 0.2
    other = perturbation.init(image, jax.random.key(1))
    assert not np.allclose(start.coefficients, other.coefficients)


def test_users_fields_work():
    field = bfjax.Field(
        init=lambda: {"gain": jnp.zeros(())}, log_field=lambda p: jnp.full(SHAPE, p["gain"])
    )
    perturbation = bfjax.bias_field(field)
    brighter = perturbation.apply({"gain": jnp.log(1.5)}, jnp.full((*SHAPE, 1), 0.5))
    np.testing.assert_allclose(brighter, 0.75, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_change": 0}, "max_change must be positive, got 0"),
        ({"max_change": -0.1}, "max_change"),
        ({"max_log_field": float("nan")}, "max_log_field"),
        ({"offset": -1}, "offset"),
        ({"start_noise": -1}, "start_noise"),
        ({"encoding": "sqrt"}, "encoding must be one of .*'sqrt'"),
        ({"saturation": "wrap"}, "saturation must be one of .*'wrap'"),
        ({"saturation": "tanh"}, "needs max_log_field, the bound that it saturates at"),
        ({"gamma": 0}, "gamma must be positive and finite, got 0"),
        ({"encoding": "log", "offset": 0.1}, "log encoding has no product to offset"),
    ],
)
def test_bad_options_are_named(options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        bfjax.bias_field(_field(), **options)
