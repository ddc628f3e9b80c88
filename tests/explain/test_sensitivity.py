import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from bfjax.explain import logit, probability, sensitivity_map, sensitivity_map_batch
from tests.networks import answers, images, smooth_network

SHAPE = (7, 9, 2)


def looks_at(region, scale=80.0):
    """Class 0 where this region is bright, and nothing else is looked at."""

    def apply(inside, image):
        margin = scale * (
            jnp.sum(inside[..., None] * image) / (inside.sum() * image.shape[-1]) - 0.5
        )
        return jnp.stack([margin / 2, -margin / 2])

    return Partial(apply, jnp.asarray(region, jnp.float32))


def region_of(rows, columns, shape=(24, 24)):
    region = np.zeros(shape, bool)
    region[slice(*rows), slice(*columns)] = True
    return region


REGION = region_of((4, 12), (12, 22))


def find(predict, clean, attacked, label=0, **options):
    """Compiled, which on small networks takes less time than one eager loop."""
    whole = jax.jit(lambda p, x, a, y: sensitivity_map(p, x, a, y, **options))
    return whole(predict, clean, attacked, label)


def darkened():
    clean = images(1, (24, 24, 1), low=0.5, high=0.7)[0]
    return clean, clean - 0.2


# A cell inside moves the logit by 8/20 or more, one that only touches the region by 0.05 or less:
# a λ1 between the two, divided by 144 cells, tells them apart.
@pytest.mark.parametrize(("score", "l1"), [(probability, 0.05), (logit, 20.0)])
@pytest.mark.parametrize(
    "region", [REGION, region_of((0, 24), (0, 4)), region_of((17, 24), (9, 15))]
)
def test_the_map_finds_the_only_region_that_counts(region, score, l1):
    """The attack darkens all of the image; only this region of it works."""
    found = find(looks_at(region), *darkened(), score=score, l1=l1, mask_size=12)
    for at in (np.sort(found.map.ravel())[-region.sum()], float(found.map.max()) / 2):
        seen = np.asarray(found.map) >= at
        assert (seen & region).sum() / (seen | region).sum() >= 0.5
    assert found.flips
    assert found.score.shape == (150,)
    assert 0 <= float(found.map.min()) <= float(found.map.max()) <= 1


def test_with_a_large_l1_the_mask_vanishes_and_flips_nothing():
    found = find(looks_at(REGION), *darkened(), l1=100.0, mask_size=12, num_steps=15)
    np.testing.assert_array_equal(found.map, 0)
    np.testing.assert_array_equal(found.mask, np.zeros((12, 12)))
    assert not found.flips


@pytest.mark.parametrize(("l1", "value"), [(0.05, 0), (0.0, 1)])
def test_identical_images_give_a_flat_map(l1, value):
    predict, clean = smooth_network(), images(1)[0]
    found = find(predict, clean, clean, l1=l1, mask_size=8, num_steps=20)
    np.testing.assert_array_equal(found.mask, value)
    np.testing.assert_allclose(found.map, value, atol=1e-6)


def upsampling(size, cells):
    """The matrix of bilinear upsampling: pixel centres in units of cells, borders repeated."""
    matrix = np.zeros((size, cells))
    for i in range(size):
        at = min(max((i + 0.5) * cells / size - 0.5, 0), cells - 1)
        low = min(int(at), cells - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (at - low), at - low
    return matrix


def transcription(
    weights, clean, attacked, *, size, l1, tv, exponent, reduction, start, step_size, steps, score
):
    """Eq. 8 by Adam in NumPy, for the classifier with the logits (w·x, −w·x) and label 0."""
    rows, columns = upsampling(clean.shape[0], size[0]), upsampling(clean.shape[1], size[1])
    mask, first, second = np.full(size, start), np.zeros(size), np.zeros(size)
    scores = []
    for t in range(1, steps + 1):
        whole = (rows @ mask @ columns.T)[..., None]
        z = np.sum(weights * (whole * attacked + (1 - whole) * clean))
        p = 1 / (1 + np.exp(-2 * z))
        scores.append(p if score is probability else z)
        slope = 2 * p * (1 - p) if score is probability else 1.0
        gradient = rows.T @ (slope * np.sum(weights * (attacked - clean), axis=-1)) @ columns
        gradient += l1 / (mask.size if reduction == "mean" else 1)
        for axis in (0, 1):
            d = np.diff(mask, axis=axis)
            pull = exponent * np.abs(d) ** (exponent - 1) * np.sign(d)
            pull *= tv / (d.size if reduction == "mean" else 1)
            before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
            before[axis], after[axis] = (1, 0), (0, 1)
            gradient += np.pad(pull, before) - np.pad(pull, after)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        mask = np.clip(mask - step_size * step, 0, 1)
    whole = rows @ mask @ columns.T
    z = np.sum(weights * (whole[..., None] * attacked + (1 - whole[..., None]) * clean))
    return whole, mask, np.array(scores), z < 0


@pytest.mark.parametrize("score", [probability, logit])
@pytest.mark.parametrize(
    ("size", "reduction", "exponent", "start", "weight"),
    [((7, 9), "mean", 3, 1.0, 0.2), ((3, 4), "mean", 2, 0.6, 0.05), ((3, 4), "sum", 1, 1.0, 0.004)],
)
def test_the_loop_is_a_numpy_transcription(size, reduction, exponent, start, weight, score, x64):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.3, SHAPE)
    clean, attacked = rng.uniform(0.2, 0.8, (2, *SHAPE))
    sign = np.sign(np.sum(weights * clean))  # class 0 when clean

    def predict(image):
        z = sign * jnp.sum(jnp.asarray(weights) * image)
        return jnp.stack([z, -z])

    options = {"l1": weight, "tv": 2 * weight, "reduction": reduction, "start": start}
    options["step_size"] = 0.07
    found = find(
        Partial(predict), jnp.asarray(clean), jnp.asarray(attacked), num_steps=25, mask_size=size,
        tv_exponent=exponent, score=score, **options,
    )  # fmt: skip
    expected = transcription(
        sign * weights, clean, attacked, size=size, exponent=exponent, steps=25, score=score,
        **options,
    )  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)
    assert 0 < found.map.mean() < 1  # neither clamp holds all of it
    assert found.map.std() > 0.05


def test_the_start_is_the_whole_attack_or_the_clean_image():
    predict, (clean, attacked) = smooth_network(), images(2, low=0.2, high=0.8)
    for start, seen in ((1.0, attacked), (0.0, clean)):
        options = {"start": start, "mask_size": 6, "num_steps": 1, "score": logit}
        found = find(predict, clean, attacked, 1, **options)
        assert found.score[0] == pytest.approx(float(predict(seen)[1]), abs=1e-5)


def test_flips_is_the_classifiers_answer_to_the_masked_image():
    """A step of zero leaves the mask where it starts."""
    predict, batch = smooth_network(), images(20)
    labels = answers(predict, batch)
    attacked = batch[np.flatnonzero(labels != labels[0])[0]]
    still = {"optimizer": optax.sgd(0.0), "mask_size": 4, "num_steps": 1}
    assert find(predict, batch[0], attacked, labels[0], **still).flips
    assert not find(predict, batch[0], attacked, labels[0], start=0.0, **still).flips


@pytest.mark.slow
def test_compiled_eager_batched_and_host_driven_maps_agree():
    predict, both = smooth_network(), images(4, low=0.2, high=0.8)
    clean, attacked = both[:2], both[2:]
    labels = answers(predict, clean)
    options = {"mask_size": (4, 6), "num_steps": 4}

    def one(predict, x, a, y):
        return sensitivity_map(predict, x, a, y, **options)

    every = jax.jit(one)
    loop = [every(predict, *these) for these in zip(clean, attacked, labels, strict=True)]
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop)
    eager = one(predict, clean[0], attacked[0], labels[0])
    batched = jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0)))(predict, clean, attacked, labels)
    seen = []
    host = sensitivity_map_batch(
        predict, np.asarray(clean), np.asarray(attacked), labels, on_step=seen.append, **options
    )
    assert seen == [1, 2, 3, 4]
    for found, expected in (
        (eager, jax.tree.map(lambda leaf: leaf[0], loop)),
        (batched, loop),
        (host, loop),
    ):
        for these, those in zip(found, expected, strict=True):
            np.testing.assert_allclose(these, those, atol=1e-4)
    assert loop.map.std() > 0.01


def test_bad_input_is_named(unchecked):
    predict, both = smooth_network(), images(2)
    clean, attacked = both
    with pytest.raises(ValueError, match=r"\(12, 12, 1\) and \(11, 12, 1\)"):
        sensitivity_map(predict, clean, attacked[1:], 0)
    with pytest.raises(ValueError, match=r"mask \(28, 28\) is larger than the image \(12, 12\)"):
        sensitivity_map(predict, clean, attacked, 0)
    with pytest.raises(ValueError, match="num_steps"):
        sensitivity_map(predict, clean, attacked, 0, num_steps=0)
    with pytest.raises(ValueError, match=r"-0\.05"):
        sensitivity_map(predict, clean, attacked, 0, l1=-0.05)
    with pytest.raises(TypeError, match="lambda1"):
        sensitivity_map(predict, clean, attacked, 0, lambda1=0.1)
    with pytest.raises(ValueError, match=r"image 1 leaves \[0, 1\]"):
        sensitivity_map_batch(predict, both, both.at[1, 0].set(2.0), jnp.zeros(2, int), mask_size=4)
    with pytest.raises(ValueError, match="label 3"):
        sensitivity_map_batch(predict, both, both, jnp.full(2, 3), mask_size=4)
