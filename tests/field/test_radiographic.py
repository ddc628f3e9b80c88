"""The field of an X-ray machine: rays traced in NumPy, exposures by SpekPy, published forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.field import LISTED_RANGES, LOG_RANGE_TIERS, RadiographicParams, exposure, radiographic
from tests.oracles import check_gradients

SHAPE, WIDTH = (7, 5), 30.0
NO_RANGES = RadiographicParams(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
ABSORPTION_120 = 0.0725  # of `exposure`, which fits it to SpekPy

# SpekPy 2.5.4: Spek(kvp, th, z).filter("Al", mm).get_kerma(x) at x = -21.5, -10.75, 10.75 and 21.5
# by that at x = 0; of degrees, kV, cm and mm
SPEKPY = [
    (12, 80.0, 180.0, 2.5, (0.7657, 0.9142, 1.0481, 1.0690)),
    (12, 120.0, 180.0, 2.5, (0.7261, 0.8949, 1.0652, 1.1009)),
    (15, 120.0, 180.0, 2.5, (0.8173, 0.9270, 1.0455, 1.0686)),
    (12, 60.0, 180.0, 3.0, (0.8093, 0.9340, 1.0323, 1.0405)),
    (12, 80.0, 180.0, 3.0, (0.7812, 0.9212, 1.0426, 1.0593)),
    (12, 100.0, 180.0, 3.0, (0.7577, 0.9102, 1.0519, 1.0763)),
    (12, 120.0, 180.0, 3.0, (0.7396, 0.9016, 1.0594, 1.0903)),
    (12, 140.0, 180.0, 3.0, (0.7266, 0.8952, 1.0652, 1.1012)),
    (15, 80.0, 180.0, 3.0, (0.8594, 0.9468, 1.0283, 1.0364)),
    (15, 120.0, 180.0, 3.0, (0.8280, 0.9321, 1.0411, 1.0605)),
    (12, 120.0, 150.0, 3.0, (0.6431, 0.8755, 1.0677, 1.0961)),
    (12, 80.0, 150.0, 3.0, (0.6932, 0.8994, 1.0478, 1.0601)),
    (12, 120.0, 210.0, 3.0, (0.7951, 0.9187, 1.0529, 1.0840)),
    (16, 120.0, 180.0, 3.0, (0.8465, 0.9389, 1.0368, 1.0532)),
    (12, 80.0, 180.0, 3.5, (0.7940, 0.9268, 1.0383, 1.0517)),
    (12, 120.0, 180.0, 3.5, (0.7509, 0.9070, 1.0549, 1.0820)),
    (15, 120.0, 180.0, 3.5, (0.8367, 0.9362, 1.0377, 1.0541)),
]


def params_of(values, dtype=np.float32):
    return RadiographicParams._make(jnp.asarray(np.asarray(values), dtype))


def random_params(seed=0, dtype=np.float32):
    return params_of(np.random.default_rng(seed).uniform(-1, 1, 7), dtype)


def log_range(field):
    return float(jnp.max(field) - jnp.min(field))


def along_the_tube(set_up, *, points=201):
    """ℓ from the middle, from the anode's side to the cathode's."""
    found = exposure.log_exposure(set_up, jnp.linspace(-21.5, 21.5, points), 0.0)
    return np.asarray(found - exposure.log_exposure(set_up, 0.0, 0.0))


def nominal(**changes):
    start = exposure.SetUp(
        off_along=0.0,
        off_across=0.0,
        distance=180.0,
        tilt=0.0,
        anode_angle=float(np.radians(12)),
        grid_shift=0.0,
        grid_focus=180.0,
        kilovolts=120.0,
        filtration=3.0,
        grid_ratio=None,
    )
    return start._replace(**changes)


def traced(at, *, cathode, falloff, grid_ratio, anode_degrees=12.0, source_cm=180.0):
    """ℓ by rays in three dimensions: x to the right, y down, z from the detector to the tube."""
    height, width = SHAPE
    change = RadiographicParams._make(np.array(at) * np.array(LISTED_RANGES))
    axis, across = {
        "down": ([0, 1, 0], [1, 0, 0]),
        "up": ([0, -1, 0], [1, 0, 0]),
        "right": ([1, 0, 0], [0, 1, 0]),
        "left": ([-1, 0, 0], [0, 1, 0]),
    }[cathode]
    axis, across, up = np.array(axis, float), np.array(across, float), np.array([0, 0, 1.0])
    tilt, anode = np.radians(change.tube_tilt), np.radians(anode_degrees + change.anode_angle)
    aim = np.array([change.off_centre_x, change.off_centre_y, 0])
    # turned about the point it is aimed at
    leaning, of_tube = (
        np.cos(tilt) * up + np.sin(tilt) * axis,
        np.cos(tilt) * axis - np.sin(tilt) * up,
    )
    source = aim + (source_cm + change.source_distance) * leaning
    surface = np.cos(anode) * of_tube - np.sin(anode) * leaning
    # depths of emission, exponentially distributed: Gauss and Laguerre's quadrature
    depths, weights = np.polynomial.laguerre.laggauss(60)

    def exposed(x, y):
        point = np.array([x, y, 0.0])
        ray = point - source
        length = np.linalg.norm(ray)
        per_area = (source[2] / length) if falloff == "cos3" else 1.0
        path = depths / (surface @ ray / length)
        heel = weights @ np.exp(-ABSORPTION_120 * path)
        return per_area * heel / length**2 * shadowed(point)

    def shadowed(point):
        if grid_ratio is None:
            return 1.0
        # strips 1 µm high from the detector towards the focal line; the gap between them is 1/r
        middle, focus = change.grid_decentring * across, source_cm + change.grid_focus
        q = (point - middle) @ across
        top = q - q * 1e-4 / focus
        spots = source[:, None] + across[:, None] * np.linspace(-0.06, 0.06, 4001)
        slope = (across @ spots - point @ across) / source[2]
        hidden = np.abs(point @ across + slope * 1e-4 - middle @ across - top)
        return 1 - np.mean(hidden) / (1e-4 / grid_ratio)

    xs = np.linspace(-WIDTH / 2, WIDTH / 2, width)
    ys = WIDTH / (width - 1) * (np.arange(height) - (height - 1) / 2)  # square pixels
    ell = np.log([[exposed(x, y) for x in xs] for y in ys])
    return ell - np.log(exposed(0.0, 0.0))


@pytest.mark.parametrize("cathode", ["down", "up", "right", "left"])
@pytest.mark.parametrize(("falloff", "grid_ratio"), [("cos2", None), ("cos3", 8.0)])
def test_it_is_the_rays_of_numpy(cathode, falloff, grid_ratio, x64):
    options = {"cathode": cathode, "falloff": falloff, "grid_ratio": grid_ratio}
    for seed in range(2):
        at = random_params(seed, np.float64)
        expected = traced(at, **options)
        for calibrated in (False, True):
            field = radiographic(
                SHAPE, width_cm=WIDTH, calibrated=calibrated, dtype=np.float64, **options
            )
            flat = traced(np.zeros(7), **options) if calibrated else 0.0
            # the blur by the focal spot is exact only far from its width
            np.testing.assert_allclose(field.log_field(at), expected - flat, atol=1e-3)


def test_the_calibrated_machine_starts_at_exactly_no_field():
    field = radiographic((40, 30), width_cm=43.0)
    start = field.init()
    assert isinstance(start, RadiographicParams)
    for log_field in (field.log_field, jax.jit(field.log_field)):
        assert (log_field(start) == 0).all()
    uncorrected = radiographic((41, 31), width_cm=43.0, calibrated=False)
    found = jax.jit(uncorrected.log_field)(start)
    assert abs(found[20, 15]) < 1e-6
    assert log_range(found) > 0.3


def test_the_parameters_mean_the_same_field_at_any_size():
    small = radiographic((9, 7), width_cm=35.0, height_cm=43.0)
    large = radiographic((33, 25), width_cm=35.0, height_cm=43.0)
    at = random_params(3)
    found = jax.jit(large.log_field)(at)[::4, ::4]
    np.testing.assert_allclose(found, jax.jit(small.log_field)(at), atol=1e-6)


@pytest.mark.parametrize(
    ("degrees", "low", "high", "width"), [(12, 0.74, 1.08, 0.38), (15, 0.83, 1.05, 0.23)]
)
def test_heel_effect_and_distance_are_what_is_required(degrees, low, high, width):
    # these figures were asked for behind 2.5 mm of aluminium; SpekPy gives them behind 3 mm, and
    # behind 2.5 mm a range of 0.42, see SPEKPY
    found = along_the_tube(nominal(anode_angle=float(np.radians(degrees))))
    assert np.exp(found.min()) == pytest.approx(low, abs=0.02)
    assert np.exp(found.max()) == pytest.approx(high, abs=0.02)
    assert np.ptp(found) == pytest.approx(width, abs=0.02)


@pytest.mark.parametrize(("degrees", "kilovolts", "source_cm", "filtration", "kerma"), SPEKPY)
def test_it_is_spekpys(degrees, kilovolts, source_cm, filtration, kerma):
    set_up = nominal(
        anode_angle=float(np.radians(degrees)),
        kilovolts=kilovolts,
        distance=source_cm,
        filtration=filtration,
    )
    np.testing.assert_allclose(
        along_the_tube(set_up, points=5)[[0, 1, 3, 4]], np.log(kerma), atol=0.02
    )


@pytest.mark.parametrize(("distance", "loss"), [(180.0, 0.028), (100.0, 0.085)])
def test_slant_distance_alone_is_the_closed_form(distance, loss):
    squared = 1 + 2 * 21.5**2 / distance**2
    found = float(exposure.log_inverse_square(jnp.asarray(squared)))
    assert 1 - np.exp(found) == pytest.approx(loss, abs=5e-4)
    of_area = float(exposure.log_inverse_square(jnp.asarray(squared), falloff="cos3"))
    assert of_area == pytest.approx(3 * np.log(np.cos(np.arctan(np.sqrt(squared - 1)))), abs=1e-6)


@pytest.mark.parametrize(
    ("used", "remains"),
    [({"kilovolts": 80.0}, 0.08), ({"off_along": -5.0}, 0.11), ({"distance": 150.0}, 0.15)],
)
def test_what_a_flat_field_leaves_is_spekpys(used, remains):
    left = along_the_tube(nominal(**used)) - along_the_tube(nominal())
    assert np.ptp(left) == pytest.approx(remains, abs=0.02)


def test_another_voltage_than_the_flat_fields_is_an_option():
    field = radiographic(
        (201, 1), width_cm=1.0, height_cm=43.0, kilovolts=80.0, flat_field_kilovolts=120.0
    )
    left = along_the_tube(nominal(kilovolts=80.0)) - along_the_tube(nominal())
    np.testing.assert_allclose(field.log_field(field.init())[:, 0], left, atol=1e-5)


# Christensen's Physics of Diagnostic Radiology, chapter on grids: loss in % at 40 inches for
# lateral decentring by 1, 2 and 3 inches.
@pytest.mark.parametrize(
    ("ratio", "losses"), [(5, (13, 25, 38)), (6, (15, 30, 45)), (8, (20, 40, 60)), (12, (30, 60))]
)
def test_lateral_decentring_loses_what_the_textbook_says(ratio, losses):
    for inches, loss in enumerate(losses, 1):
        set_up = nominal(distance=40.0, grid_focus=40.0, off_across=float(inches))
        for across in (-6.0, 0.0, 6.0):  # the same everywhere
            found = float(exposure.log_grid(set_up, across, ratio=float(ratio)))
            assert 1 - np.exp(found) == pytest.approx(loss / 100, abs=0.006)


@pytest.mark.parametrize("distance", [150.0, 210.0])
def test_a_wrong_distance_loses_in_proportion_to_that_from_the_middle(distance):
    set_up = nominal(distance=distance)
    for across in (-20.0, -10.0, 10.0, 20.0):
        loss = 10 * abs(across) * abs(1 / 180 - 1 / distance)
        found = float(exposure.log_grid(set_up, across, ratio=10.0))
        assert 1 - np.exp(found) == pytest.approx(loss, abs=2e-3)


def test_full_cut_off_and_the_horizon_of_the_anode_stay_finite():
    def darkest(distance):
        set_up = nominal(distance=distance, off_across=30.0, off_along=30.0, grid_ratio=16.0)
        return exposure.log_exposure(set_up, -21.5, 21.5)

    for distance in (60.0, 100.0):
        value, slope = jax.value_and_grad(darkest)(jnp.asarray(distance))
        assert value < -8
        assert np.isfinite([value, slope]).all()


@pytest.mark.parametrize(
    ("options", "median", "top", "alone"),
    [
        ({}, 0.31, 0.79, (0.02, 0.17, 0.44, 0.02, 0.09, 0.0, 0.16)),
        ({"grid_ratio": None}, 0.09, 0.32, (0.02, 0.17, 0.17, 0.02, 0.09, 0.0, 0.0)),
    ],
)
def test_what_the_listed_ranges_reach_is_what_is_stated(options, median, top, alone):
    """Each parameter alone at its ends, then all drawn at random."""
    field = radiographic((17, 17), width_cm=43.0, **options)
    drawn = np.random.default_rng(0).uniform(-1, 1, (2000, 7))
    some = np.concatenate([np.eye(7), -np.eye(7), drawn])
    ranges = jax.jit(jax.vmap(lambda at: jnp.ptp(field.log_field(at))))(params_of(some.T))
    np.testing.assert_allclose(np.maximum(ranges[:7], ranges[7:14]), alone, atol=0.006)
    assert np.median(ranges[14:]) == pytest.approx(median, abs=0.02)
    assert np.quantile(ranges[14:], 0.95) == pytest.approx(top, abs=0.03)


def test_the_tiers_are_those_of_the_machine():
    flat = along_the_tube(nominal())
    assert np.ptp(flat) == pytest.approx(LOG_RANGE_TIERS["uncorrected"], abs=0.02)
    left = {
        (name, value): np.ptp(along_the_tube(nominal(**{name: value})) - flat)
        for name, value in (
            *(("kilovolts", 80.0), ("off_along", -5.0)),
            *(("distance", 150.0), ("off_along", 5.0)),
        )
    }
    calibrated, misuse = np.split(np.array(list(left.values())), 2)
    assert calibrated.max() == pytest.approx(LOG_RANGE_TIERS["calibrated"], abs=0.01)
    assert (misuse > 1.4 * LOG_RANGE_TIERS["calibrated"]).all()
    assert (misuse < LOG_RANGE_TIERS["misuse"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("calibrated", [True, False])
def test_gradients_are_finite_differences_at_the_start_and_elsewhere(calibrated, x64):
    field = radiographic(SHAPE, width_cm=WIDTH, calibrated=calibrated, dtype=np.float64)
    for at in (field.init(), random_params(0, np.float64)):
        check_gradients(field.log_field, (at,), order=1, modes=["rev"], eps=1e-6)


def test_values_and_gradients_are_finite_in_every_corner():
    field = radiographic((9, 9), width_cm=43.0)
    corners = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 7), -1).reshape(-1, 7)
    batch = jax.tree.map(lambda column: jnp.asarray(column, jnp.float32), list(corners.T))
    slope = jax.grad(lambda params: jnp.sum(field.log_field(params) ** 2))
    found = jax.jit(jax.vmap(lambda p: (field.log_field(p), slope(p))))(
        RadiographicParams._make(batch)
    )
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_jit_is_eager_and_vmap_is_a_loop():
    field = radiographic(SHAPE, width_cm=WIDTH)
    many = [random_params(seed) for seed in range(3)]
    loop = jnp.stack([field.log_field(at) for at in many])
    batch = jax.tree.map(lambda *p: jnp.stack(p), *many)
    np.testing.assert_allclose(jax.jit(jax.vmap(field.log_field))(batch), loop, atol=1e-6)


def test_numbers_are_leaves():
    def made(**numbers):
        return radiographic(SHAPE, width_cm=WIDTH, **numbers)

    one, other = made(), made(source_cm=150, kilovolts=80, ranges=LISTED_RANGES)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    compiled = jax.jit(lambda field, at: field.log_field(at))
    at = random_params()
    np.testing.assert_allclose(compiled(other, at), other.log_field(at), atol=1e-6)
    assert compiled._cache_size() == 1
    compiled(one, at)
    assert compiled._cache_size() == 1
    slope = jax.jit(jax.grad(lambda cm: made(source_cm=cm).log_field(at).std()))(180.0)
    assert np.isfinite(slope)
    assert slope != 0


def test_an_attack_runs_with_it_and_stays_in_the_ranges():
    shape = (16, 16)
    image = jnp.full((*shape, 1), 0.5)
    field = radiographic(shape, width_cm=43.0)
    attack = bfjax.Attack(
        perturbation=bfjax.bias_field(field),
        loss=bfjax.attack.cross_entropy,
        optimizer=bfjax.attack.steepest("linf", 0.2),
        project=bfjax.attack.parameter_ball(norm="linf", radius=1.0),
        num_steps=10,
    )

    def predict(image):  # is the upper half as bright as the lower?
        upper, lower = image[:8].mean(), image[8:].mean()
        return 100 * jnp.stack([0.01 + lower - upper, upper - lower])

    result = bfjax.run(attack, predict, image, 0)
    assert predict(image).argmax() == 0
    assert result.logits.argmax() == 1
    assert all(jnp.abs(leaf) <= 1 for leaf in jax.tree.leaves(result.params))
    # moved by the slopes of others: at the start the grid has none
    assert result.params.grid_focus != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_cm": 0.0}, "width_cm must be positive and finite, got 0.0"),
        ({"width_cm": "43"}, "width_cm must be a number, got '43'"),
        ({"height_cm": -1.0}, "height_cm must be positive and finite, got -1.0"),
        ({"source_cm": np.nan}, "source_cm must be positive and finite, got nan"),
        ({"kilovolts": 30}, r"kilovolts must be in \[50, 150\], got 30"),
        ({"flat_field_kilovolts": 200}, r"flat_field_kilovolts must be in \[50, 150\], got 200"),
        ({"flat_field_kilovolts": 80.0, "calibrated": False}, "set calibrated=True"),
        ({"cathode": "north"}, "cathode must be one of .*, got 'north'"),
        ({"falloff": "cos4"}, "falloff must be one of .*, got 'cos4'"),
        ({"ranges": (1.0, 2.0)}, r"ranges must be RadiographicParams, got \(1.0, 2.0\)"),
        ({"ranges": NO_RANGES._replace(tube_tilt=-1.0)}, "range of tube_tilt must not be negative"),
        ({"ranges": NO_RANGES._replace(tube_tilt=90.0)}, "tube_tilt must stay between -90 and 90"),
        ({"source_cm": 30.0}, "source_distance must stay between 0 and inf"),
        ({"anode_degrees": 1.0}, "anode_angle must stay between 0 and 90"),
        ({"grid_focus_cm": 15.0}, "grid_focus must stay between 0 and inf"),
        ({"grid_ratio": 0.0}, "grid_ratio must be positive and finite, got 0.0"),
    ],
)
def test_bad_options_are_named(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        radiographic(SHAPE, **{"width_cm": WIDTH} | options)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 4, 1)])
def test_bad_shapes_are_named(shape, unchecked):
    with pytest.raises(ValueError, match="shape"):
        radiographic(shape, width_cm=WIDTH)
