"""Helpers shared by the tests; the oracles themselves are SciPy, NumPy and Keras."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads


def check_gradients(function, arguments, **options):
    """JAX's finite-difference check, which hands NumPy arrays to functions that want JAX's."""

    def wrapped(*arguments):
        return function(*jax.tree.map(jnp.asarray, arguments))

    check_grads(wrapped, arguments, **options)


def jittered(params, scale=0.2, seed=0):
    """Parameters with normal noise."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + jnp.asarray(rng.normal(0, scale, p.shape), p.dtype), params)


def sizes(jaxpr):
    """The numbers in each value that a program holds on its way."""
    for equation in jaxpr.eqns:
        yield from (int(np.prod(value.aval.shape)) for value in equation.outvars)
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            yield from sizes(inner) if hasattr(inner, "eqns") else ()
