import logging
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bfjax.storage import saves

PARAMS = {"z": jnp.arange(3.0), "a": {"kernel": jnp.ones((2, 2)), "b": jnp.zeros(())}}
STATE = (PARAMS, optax.adam(0.1).init(PARAMS), jnp.asarray(7, jnp.int32))


def test_every_array_comes_back_where_it_was(tmp_path):
    """Of many shapes, types and names, in an order that is not that of the names."""
    numbered = jax.tree.map(lambda x: x + jnp.asarray(0.1 + x.size).astype(x.dtype), STATE)
    with saves(tmp_path / "deep" / "folder") as states:
        assert states.latest is None
        states.save(1, numbered, {"x": [0.1, None], "nan": float("nan")})
    with saves(tmp_path / "deep" / "folder") as states:
        about, found = states.about(1), states.arrays(1, STATE)
    assert about["x"] == [0.1, None]
    assert np.isnan(about["nan"])
    assert jax.tree.structure(found) == jax.tree.structure(STATE)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(numbered), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_the_newest_two_are_kept_and_halves_are_swept_away(tmp_path):
    with saves(tmp_path) as states:
        for step in (2, 5, 11):
            states.save(step, jnp.zeros(step), {"step": step})
    (tmp_path / "12.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "13.orbax-checkpoint-tmp").mkdir()
    with saves(tmp_path) as states:
        assert states.latest == 11
        assert states.about(5) == {"step": 5}
        states.save(12, jnp.zeros(12), {"step": 12})  # the halves are gone at the latest then
    assert {f.name for f in tmp_path.iterdir()} == {"11", "12"}


def test_an_old_state_that_was_half_deleted_does_not_matter(tmp_path, caplog):
    """Killed in the middle of clearing away."""
    with saves(tmp_path) as states:
        for step in (6, 7):
            states.save(step, jnp.zeros(3), {})
        (tmp_path / "6" / "_CHECKPOINT_METADATA").unlink()
    with saves(tmp_path) as states:
        states.save(8, jnp.ones(3), {})
        np.testing.assert_array_equal(states.arrays(7, jnp.ones(3)), np.zeros(3))
    assert {f.name for f in tmp_path.iterdir()} == {"7", "8"}
    assert caplog.text == ""


def test_what_does_not_fit_is_refused(tmp_path):
    with saves(tmp_path) as states:
        states.save(1, {"x": jnp.zeros(3)}, {})
        for like in ({"y": jnp.zeros(3)}, {"x": jnp.zeros(3), "y": jnp.zeros(3)}):
            with pytest.raises(ValueError, match=r"1 cannot be read .*delete .* to start anew"):
                states.arrays(1, like)
        (tmp_path / "1" / "about" / "metadata").write_text("{")
        with pytest.raises(ValueError, match=r"1 cannot be read"):
            states.about(1)


def test_after_a_failure_orbax_alone_is_unheard(tmp_path, monkeypatch, caplog):
    """It goes on telling, from threads of its own; whatever else fails in a process is still told.

    Standing in for it: code that is compiled as a file of Orbax's.
    """
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    log = logging.getLogger("absl")
    filters = list(log.filters)
    with pytest.raises(RuntimeError, match="failed"), saves(tmp_path / "folder"):
        raise RuntimeError("failed")
    theirs = compile("1 / 0", "orbax/checkpoint/writer.py", "exec")
    for target in (lambda: exec(theirs), lambda: [][0]):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert [one.exc_type for one in heard] == [IndexError]
    log.error("of orbax")
    log.error("of another")
    assert caplog.messages == ["of another"]
    log.filters = filters
