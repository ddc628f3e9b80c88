"""The worst set-up of a machine, where the gradient says nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.evaluation.standard import testing


def rounding(x):
    rounded = jnp.round(x * 16) / 16
    return 40 * jnp.stack([rounded[:6].mean() - 0.02, rounded[6:].mean()])


def found(num_random, predict=rounding):
    tested = testing.Test(
        predict=predict,
        images=np.full((4, 12, 12, 1), 0.5, np.float32),
        labels=np.ones(4, int),
        names=list("abcd"),
        settings={"encoding": "linear", "gamma": 0.29, "num_random": num_random},
        batch_size=4,
        key=jax.random.key(0),
        on_gradients=lambda _: None,
    )
    return tested.machine()


def test_nan_under_a_set_up_is_told():
    def breaks(x):  # where the light is less than none
        return jnp.stack([jnp.sqrt(x.min() - 0.49), 0.5 - x.mean()])

    with pytest.raises(ValueError, match="answers NaN at a under a machine's light"):
        found(2, breaks)


def test_random_set_ups_find_what_the_gradient_hides():
    columns, params = found(32)
    logits = np.asarray(columns["worst"])
    assert (logits.argmax(1) == 0).any()
    assert (np.asarray(found(1)[0]["worst"]).argmax(1) == 1).all()
    assert max(abs(np.asarray(values)).max() for values in params) <= 1
