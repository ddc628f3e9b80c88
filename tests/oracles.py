"""Helpers shared by the tests; the oracles themselves are SciPy, NumPy and Keras."""

import jax
import jax.numpy as jnp
from jax.test_util import check_grads


def check_gradients(function, arguments, **options):
    """JAX's finite-difference check, which hands NumPy arrays to functions that want JAX's."""

    def wrapped(*arguments):
        return function(*jax.tree.map(jnp.asarray, arguments))

    check_grads(wrapped, arguments, **options)
