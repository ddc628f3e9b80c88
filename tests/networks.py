"""Small fixed classifiers for the tests of attacks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial


def images(count=4, shape=(12, 12, 1), *, low=0.0, high=1.0, seed=1):
    """Uniform noise cut to [0, 1]: where low < 0 < 1 < high some pixels are black or white."""
    values = np.random.default_rng(seed).uniform(low, high, (count, *shape))
    return jnp.asarray(np.clip(values, 0, 1), jnp.float32)


def smooth_network(classes=3, shape=(12, 12, 1), *, seed=0, scale=3.0, dtype=jnp.float32):
    """Two dense layers with a tanh between them, as a `Partial` of its weights."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    weights = [rng.normal(0, size**-0.5, (size, 16)), rng.normal(0, 1, (16, classes))]

    def apply(weights, image):
        one, two = weights
        return scale * (jnp.tanh(4 * (image.ravel() - 0.5) @ one) @ two)

    return Partial(apply, [jnp.asarray(w, dtype) for w in weights])


def answers(predict, batch):
    return jax.vmap(predict)(batch).argmax(-1)
