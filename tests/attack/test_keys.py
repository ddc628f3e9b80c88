"""Whatever stands for a random key: typed keys, the older sort, and what is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax import attack, attacks, explain
from bfjax.types import as_key

SHAPE = (8, 8, 1)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE)


def predict(image):
    return 9 * jnp.stack([image[:4].mean(), image[4:].mean()])


PGD = attacks.pgd(epsilon=0.1, step_size=0.05, num_steps=2)
FIELD = attacks.bias_field(SHAPE, degree=2, grid_size=2, num_steps=2, start_noise=0.1)
DIVERSE = attacks.di_fgsm(num_steps=2)
IMAGES, LABELS = jnp.stack([IMAGE, 1 - IMAGE, IMAGE**2]), jnp.array([0, 1, 0])


def batch(key):
    return bfjax.run_batch(PGD, predict, IMAGES, LABELS, key=key).adversarial


def stream(key):
    examples = [(i, np.asarray(IMAGES[i]), np.asarray(LABELS[i])) for i in range(3)]
    (done,) = attack.run_stream(PGD, predict, examples, batch_size=3, key=key)
    return done.result.adversarial


def run_of(made):
    return lambda key: bfjax.run(made, predict, IMAGE, 0, key=key).adversarial


def view_of(view):
    return lambda key: view(key, IMAGE)


# everything public that takes one key
TAKERS = {
    "init": lambda key: bfjax.init(FIELD, IMAGE, key=key).params.coefficients,
    "run": run_of(FIELD),
    "run, transform": run_of(DIVERSE),
    "run_batch": batch,
    "run_stream": stream,
    "minimal": run_of(attack.minimal(lambda e: attacks.pgd(epsilon=e, num_steps=2), num_tries=2)),
    "smallest_step": run_of(attack.smallest_step(PGD, num_steps=2, num_finer=2)),
    "restarts": run_of(attack.restarts(PGD, 2)),
    "a field": lambda key: FIELD.perturbation.init(IMAGE, key).coefficients,
    "pixels": lambda key: PGD.perturbation.init(IMAGE, key),
    "compose": lambda key: bfjax.compose([PGD.perturbation] * 2).init(IMAGE, key)[1],
    "resize_and_pad": view_of(attack.resize_and_pad(probability=1.0)),
    "random_resize": view_of(attack.random_resize()),
    "random_window": view_of(attack.random_window()),
    "random_map": lambda key: explain.random_map(key, (8, 8)),
}


@pytest.mark.parametrize("name", TAKERS)
def test_a_key_of_the_older_sort_is_that_key(name):
    old, typed = (TAKERS[name](make(7)) for make in (jax.random.PRNGKey, jax.random.key))
    np.testing.assert_array_equal(old, typed)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("key", "told"),
    [
        (0, "got 0"),
        (np.int64(3), "got .*3"),
        (jnp.asarray(0), r"got .*0"),
        ("key", "got 'key'"),
        (jnp.zeros(3, jnp.uint32), r"got an array uint32\[3\]"),
        (jnp.zeros(2), r"got an array float32\[2\]"),
    ],
)
@pytest.mark.parametrize("name", TAKERS)
def test_what_is_no_key_is_named_with_the_way_out(name, key, told):
    with pytest.raises(
        ValueError, match=rf"^key must be a key such as jax.random.key\(0\), {told}"
    ):
        TAKERS[name](key)


def test_a_batch_takes_as_many_keys_as_images():
    typed = jax.random.split(jax.random.key(3), 3)
    want = batch(jax.random.key(3))
    for keys in (typed, jax.random.key_data(typed)):
        np.testing.assert_array_equal(batch(keys), want)
    with pytest.raises(ValueError, match=r"^key is one key or 3, one an image; got shape \(2,\)$"):
        batch(typed[:2])


def test_keys_come_in_any_number_and_any_wrapping():
    many = jax.random.split(jax.random.key(0), (2, 3))
    assert as_key(jax.random.key_data(many)).shape == (2, 3)
    assert as_key(np.asarray(jax.random.PRNGKey(5))) == jax.random.key(5)
    found = jax.jit(jax.vmap(lambda k: jax.random.bits(as_key(k))))(jax.random.key_data(many[0]))
    np.testing.assert_array_equal(found, jax.vmap(jax.random.bits)(many[0]))
    other = jax.random.key(0, impl="rbg")  # whatever its kind
    assert as_key(other) is other
