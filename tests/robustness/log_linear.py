"""A classifier that is linear in the log of the image, for which everything is known exactly."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

SHAPE = (12, 14)
LEVEL = 0.4


def classifier(seed=0, gap=1.0):
    """Two classes: random weights of log-intensity, which sum to 0, and a gap without light."""
    weights = np.random.default_rng(seed).normal(0, 1 / np.sqrt(np.prod(SHAPE)), SHAPE)
    weights -= weights.mean()
    table = jnp.asarray(weights, jnp.float32)

    def predict(image):
        score = jnp.sum(table * jnp.log(image[..., 0] / LEVEL))
        return jnp.stack([gap + score, -score])

    return predict, weights


def image():
    return jnp.full((*SHAPE, 1), LEVEL)


def lowest(field, weights, log_range):
    """The smallest Σ w B̂ of a light within a log-range: a linear program over the pixels."""
    basis = np.asarray(field.basis(), np.float64).reshape(len(field.init()), -1)
    slope = basis @ weights.ravel()
    level = np.ones((basis.shape[1], 1))
    found = linprog(
        np.append(slope, 0),
        A_ub=np.block([[basis.T, -level], [-basis.T, level]]),
        b_ub=np.full(2 * basis.shape[1], log_range / 2),
        bounds=[(None, None)] * (len(slope) + 1),
    )
    return found.fun


def smallest(field, weights, gap):
    """The smallest log-range at which the classifier is undecided; all is linear in it."""
    return gap / (-2 * lowest(field, weights, 1.0))
