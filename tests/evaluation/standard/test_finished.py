"""Finished audits, opened again."""

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import storage
from bfjax.evaluation.standard import (
    NODES,
    log_field_at_nodes,
    range_in_words,
    read_audit,
    turning_lights,
)
from bfjax.field import legendre
from tests.report.standard.conftest import SMALLEST, answers, make_up


def opened(made):
    return turning_lights(made.folder, read_audit(made.folder / "audit.json"))


@pytest.mark.parametrize("shape", [(32, 32, 1), (21, 48, 3)])
def test_a_few_places_tell_the_light_everywhere(shape):
    """Lagrange's interpolation of NumPy's own: degree 4 in x and in y."""
    params = np.random.default_rng(0).normal(size=14).astype(np.float32)
    nodes = log_field_at_nodes(params, shape).astype(np.float64)
    assert nodes.shape == (NODES, NODES)
    at, (rows, columns) = np.linspace(-1, 1, NODES), (np.linspace(-1, 1, n) for n in shape[:2])
    down = np.polynomial.polynomial.polyfit(at, nodes, NODES - 1)
    lines = np.polynomial.polynomial.polyval(rows, down).T  # (rows, nodes of x)
    across = np.polynomial.polynomial.polyfit(at, lines.T, NODES - 1)
    field = np.polynomial.polynomial.polyval(columns, across)
    wanted = np.asarray(legendre(shape[:2], degree=4).log_field(jnp.asarray(params)))
    np.testing.assert_allclose(field, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("turned", [False, True])
def test_lights_are_those_that_were_stored_nearest_first(tmp_path, turned):
    made = make_up(tmp_path, turned=turned)
    found = opened(made)
    assert [light.row for light in found] == [2, 4, 1, 5]
    assert [light.tier for light in found] == [0.1, 0.2, 0.4, 0.4]
    for light in found:
        assert light.log_range == SMALLEST[light.row]
        np.testing.assert_array_equal(light.params, made.params[light.row])
        assert light.label == ("NORMAL", "PNEUMONIA")[light.row % 2]
        assert light.file.startswith(light.label)
        assert light.clean.name == light.label != light.worst.name
        assert light.clean.probability == pytest.approx(1 / (1 + np.exp(-2)))
        number = (0.1, 0.2, 0.4).index(light.tier)
        assert light.worst.probability == pytest.approx(1 / (1 + np.exp(1 + number)))
        assert (light.turned is not None) == turned
        if light.turned is not None:
            assert light.turned.name == light.worst.name
            assert light.turned.probability == pytest.approx(1 / (1 + np.exp(0.01)))


def test_one_light_for_all_counts_where_it_is_less_uneven(tmp_path):
    """Of each image it turns: 1 within 0.1, 3 within 0.2, 2 and 5 within 0.4, the last not."""
    made = make_up(tmp_path)
    turned_from = np.array([9, 0, 2, 1, 9, 2])  # which of the ranges
    truth = np.arange(6) % 2
    ranges = np.tile([0.09, 0.19, 0.39], (6, 1))
    logits = np.stack([answers(truth, turned_from <= t, 8) for t in range(3)], 1)
    params = np.random.default_rng(1).normal(size=(6, 3, 14)).astype(np.float32)
    for half in range(2):
        chosen = np.arange(6)[half::2]
        columns = {"index": chosen, "log_ranges": list(ranges[chosen]), "fitted": np.full(3, 3),
                   "logits": list(logits[chosen].reshape(3, -1))}  # fmt: skip
        path = made.folder / "shards" / "universal" / f"{half:07d}.parquet"
        storage.write_shard(path, columns, params[chosen])
    found = {light.row: light for light in opened(made)}
    assert list(found) == [2, 1, 4, 3, 5]
    assert [light.log_range for light in found.values()] == [0.05, 0.09, 0.15, 0.19, 0.39]
    for row, tier in ((1, 0), (3, 1), (5, 2)):
        np.testing.assert_array_equal(found[row].params, params[row, tier])
        assert found[row].turned == found[row].worst
        assert found[row].worst.probability == pytest.approx(1 / (1 + np.exp(8)))
    np.testing.assert_array_equal(found[2].params, made.params[2])


def test_at_a_threshold_the_probability_is_the_models_own(tmp_path):
    usual, strict = (opened(make_up(tmp_path, str(t), threshold=t)) for t in (0.5, 0.9))
    for one, other in zip(usual, strict, strict=True):
        assert one.worst.probability == pytest.approx(other.worst.probability, rel=1e-5)


def test_a_single_logit_is_two_classes(tmp_path):
    made = make_up(tmp_path)
    path = made.folder / "shards" / "fixed" / "0000000.parquet"
    table = storage.read_shard(path).to_pydict()
    for name, count in (("clean", 1), ("worst", 3)):
        values = np.array(table[name]).reshape(-1, count, 2)
        table[name] = list(values[..., 1] - values[..., 0])
    params = np.array(table.pop("params"))
    storage.write_shard(path, table, params)
    told = opened(make_up(tmp_path, "two"))
    for one, other in zip(opened(made), told, strict=True):
        assert (one.clean.name, one.worst.name) == (other.clean.name, other.worst.name)
        assert one.clean.probability == pytest.approx(other.clean.probability)


def test_shards_of_other_images_are_named(tmp_path):
    made = make_up(tmp_path)
    other = make_up(tmp_path, "other", seed=4)
    path = made.folder / "images.parquet"
    whole = path.read_bytes()
    path.write_bytes((other.folder / "images.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"images\.parquet is not of the results in that folder"):
        opened(made)
    path.unlink()
    with pytest.raises(ValueError, match=r"images\.parquet is not there"):
        opened(made)
    path.write_bytes(whole)
    shard = made.folder / "shards" / "fixed" / "0000000.parquet"
    shard.write_bytes((other.folder / "shards/fixed/0000000.parquet").read_bytes())
    with pytest.raises(ValueError, match="does not hold the images of"):
        opened(made)


def test_ranges_have_words():
    assert range_in_words(0.1) == "no more than a calibrated machine leaves"
    assert range_in_words(float(np.float32(0.2))) == "no more than a misused machine makes"
    assert range_in_words(0.39) == "no more than an uncorrected machine makes"
    assert range_in_words(0.6) == "more than an uncorrected machine makes, up to a factor of two"
    assert range_in_words(0.71) == "more than a factor of two"
