import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

import bfjax
from bfjax.field import PolynomialTPSParams, control_grid, exponents, lattice
from tests.oracles import check_gradients, jittered

SHAPE, DEGREE, GRID = (6, 9), 5, 4


def _params(seed=0, dtype=np.float32, **options):
    field = bfjax.polynomial_tps(SHAPE, degree=DEGREE, grid_size=GRID, dtype=dtype, **options)
    return field, jittered(field.init(), seed=seed)


@pytest.mark.parametrize("terms", ["literal", "count", "total"])
@pytest.mark.parametrize("extent", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("border", ["clamp", "free"])
def test_log_field_is_scipys_spline_then_numpys_polynomial(terms, extent, border, x64):
    field, params = _params(dtype=np.float64, terms=terms, extent=extent, border=border)
    low, high = extent
    controls = control_grid(GRID, low=low, high=high)
    spline = RBFInterpolator(controls, params.control_points, kernel="thin_plate_spline", degree=1)
    warped = spline(lattice(*SHAPE, low=low, high=high))
    assert (warped < low).any() or (warped > high).any()
    x, y = (np.clip(warped, low, high) if border == "clamp" else warped).T
    pairs = exponents(DEGREE, 1, terms=terms)
    expected = sum(a * x**t * y**l for (t, l), a in zip(pairs, params.coefficients, strict=True))
    np.testing.assert_allclose(field.log_field(params).ravel(), expected, atol=1e-10)


def test_identity_is_no_field_and_params_have_the_documented_shapes():
    field = bfjax.polynomial_tps((32, 32))
    params = field.init()
    assert isinstance(params, PolynomialTPSParams)
    assert params.coefficients.shape == (45,)
    assert params.control_points.shape == (256, 2)
    np.testing.assert_array_equal(params.control_points[:2, 1], [-1, -1])  # y outer, x inner
    assert (field.log_field(params) == 0).all()


def test_field_is_linear_in_its_coefficients_and_sees_their_order():
    field, params = _params()
    doubled = params._replace(coefficients=2 * params.coefficients)
    np.testing.assert_allclose(
        field.log_field(doubled), 2 * field.log_field(params), rtol=1e-5, atol=1e-6
    )
    turned = params._replace(coefficients=params.coefficients[::-1])
    assert not np.allclose(field.log_field(turned), field.log_field(params))


def test_swapping_the_axes_transposes_the_field():
    """a_{t,l} ↔ a_{l,t} with transposed control points transposes the picture."""
    field = bfjax.polynomial_tps((7, 7), degree=4, min_degree=0, grid_size=3)
    pairs = exponents(4, 0)
    rng = np.random.default_rng(0)
    a = rng.normal(size=len(pairs)).astype(np.float32)
    theta = control_grid(3) + rng.normal(0, 0.1, (9, 2))
    swap = [pairs.index((l, t)) for t, l in pairs]
    theta_swapped = theta.reshape(3, 3, 2).transpose(1, 0, 2)[..., ::-1].reshape(9, 2)
    one = field.log_field(PolynomialTPSParams(jnp.asarray(a), jnp.asarray(theta, jnp.float32)))
    other = field.log_field(
        PolynomialTPSParams(jnp.asarray(a[swap]), jnp.asarray(theta_swapped, jnp.float32))
    )
    np.testing.assert_allclose(one, other.T, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_finite_differences_at_the_identity_and_elsewhere(x64):
    field, params = _params(dtype=np.float64)
    for at in (field.init(), params):
        check_gradients(field.log_field, (at,), order=1, modes=["rev"], eps=1e-6)


@pytest.mark.slow
def test_warp_has_no_gradient_at_the_identity():
    """PAPER.md, section 3: at a = 0 the field does not see θ, and sign(0) = 0."""
    field, _ = _params()
    gradient = jax.grad(lambda p: field.log_field(p).sum())(field.init())
    assert (gradient.control_points == 0).all()
    assert (gradient.coefficients != 0).any()


def test_clamped_the_field_is_no_larger_than_its_coefficients():
    field, params = _params()
    far = params._replace(control_points=50 * params.control_points)
    bound = float(abs(far.coefficients).sum())
    assert abs(field.log_field(far)).max() <= bound
    free, _ = _params(border="free")
    assert abs(free.log_field(far)).max() > 100 * bound


def test_at_the_identity_the_border_of_the_image_keeps_its_gradient():
    """It lies exactly on the clamp, which passes the gradient in full there and none beyond."""
    for border in ("clamp", "free"):
        field, _ = _params(border=border)
        start = field.init()
        start = start._replace(coefficients=jnp.ones_like(start.coefficients))
        slopes = jax.grad(lambda p, f=field: f.log_field(p)[0, 0])(start).control_points
        assert abs(slopes[0]).max() > 1
        outside = start._replace(control_points=1.5 * start.control_points)
        slopes = jax.grad(lambda p, f=field: f.log_field(p)[0, 0])(outside).control_points
        assert (abs(slopes).max() == 0) == (border == "clamp")


def test_an_unknown_border_is_named(unchecked):
    with pytest.raises(ValueError, match=r"border must be one of .*'wrap'"):
        bfjax.polynomial_tps((3, 3), border="wrap")


def test_jit_is_eager_and_vmap_is_a_loop():
    field, _ = _params()
    batch = jax.tree.map(lambda *p: jnp.stack(p), *[_params(seed)[1] for seed in range(3)])
    loop = jnp.stack([field.log_field(_params(seed)[1]) for seed in range(3)])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(field.log_field))(batch), loop, rtol=1e-4, atol=1e-5
    )


def test_the_matrix_travels_as_an_argument():
    field = bfjax.polynomial_tps((32, 32))
    tables = [leaf.size for leaf in jax.tree.leaves(field) if np.ndim(leaf)]
    assert tables == [32 * 32 * 256 // 4]
    again = bfjax.polynomial_tps((32, 32))
    assert jax.tree.structure(field) == jax.tree.structure(again)


def test_pixelwise_is_its_own_parameters():
    field = bfjax.pixelwise((3, 4))
    assert (field.init() == jnp.zeros((3, 4))).all()
    values = jnp.arange(12.0).reshape(3, 4)
    assert (field.log_field(values) == values).all()


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 4, 1)])
@pytest.mark.parametrize("make", [bfjax.pixelwise, bfjax.polynomial_tps])
def test_bad_shapes_are_named(make, shape, unchecked):
    with pytest.raises(ValueError, match="shape"):
        make(shape)
