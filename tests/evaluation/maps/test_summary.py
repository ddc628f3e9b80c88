import numpy as np
import pytest
import scipy.stats

from bfjax import storage
from bfjax.evaluation.maps.summary import CHANGES, CONTROLS, CURVES, gather, ratio, show, summarize


def write(folder, maps, flips):
    n, h, w = maps.shape
    columns = {
        "index": list(range(n)), "height": [h] * n, "width": [w] * n,
        "map": list(maps.reshape(n, -1)), "flips": flips,
    }  # fmt: skip
    names = ("map", *CONTROLS)
    areas = {f"{c}_{k}": np.full(n, 0.2 + 0.1 * i) for c in CURVES
             for i, k in enumerate(names)}  # fmt: skip
    scores = {f"score_{k}": np.full(n, 0.5) for k in ("clean", "adversarial", "masked")}
    changes = {name: np.full(n, i + 1.0) for i, name in enumerate(CHANGES)}
    for at in (0, 2):
        part = {k: v[at : at + 2] for k, v in (columns | areas | scores | changes).items()}
        storage.write_shard(folder / f"{at}.parquet", part, {})


@pytest.fixture
def maps():
    """Three maps of four columns: top only, bottom only (half as much), nothing."""
    values = np.zeros((3, 6, 4), np.float32)
    values[0, :2], values[1, 4:] = 1, 0.5
    return values


def test_maps_are_gathered_over_shards(maps, tmp_path):
    write(tmp_path, maps, [True, False, True])
    found = gather(tmp_path)
    np.testing.assert_allclose(found.mean, maps.mean(0))
    np.testing.assert_allclose(found.thirds, [[8, 0, 0], [0, 0, 4], [0, 0, 0]])
    summary = summarize(found, fooled=5)
    thirds = {name: third["value"] for name, third in summary["thirds"].items()}
    assert thirds == pytest.approx({"top": 2 / 3, "middle": 0, "bottom": 1 / 3})
    changes = [third["value"] for third in summary["thirds_of_change"].values()]
    assert changes == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert (summary["images"], summary["fooled"], summary["flips"]["count"]) == (3, 5, 2)
    difference = summary["areas"]["deletion"]["map_minus_random"]
    assert (difference["value"], difference["low"]) == pytest.approx((-0.1, -0.1))


def test_maps_of_zeros_have_no_thirds(maps, tmp_path, capsys):
    write(tmp_path, 0 * maps, [False] * 3)
    summary = summarize(gather(tmp_path), fooled=3)
    assert summary["thirds"]["top"] == {"value": None, "low": None, "high": None}
    storage.write_json(tmp_path / "summary.json", summary)  # no NaN
    show(summary, tmp_path)
    assert "- to -" in capsys.readouterr().out


def test_where_nearly_all_maps_are_zero_shares_have_no_interval(maps, tmp_path):
    """Some resamples of the bootstrap then hold zeros alone."""
    write(tmp_path, maps * np.array([1, 0, 0])[:, None, None], [False] * 3)
    thirds = summarize(gather(tmp_path), fooled=3)["thirds"]
    assert sum(third["value"] for third in thirds.values()) == pytest.approx(1)
    assert thirds["top"]["low"] is thirds["top"]["high"] is None


def test_the_interval_of_a_ratio_is_scipys():
    rng = np.random.default_rng(1)
    above, below = rng.uniform(0, 1, 200), rng.uniform(1, 3, 200)
    found = ratio(above, below)
    expected = scipy.stats.bootstrap(
        (above, below), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True,
        method="percentile", n_resamples=4000, rng=rng,
    ).confidence_interval  # fmt: skip
    assert found["value"] == pytest.approx(above.sum() / below.sum())
    width = expected.high - expected.low
    assert found["low"] == pytest.approx(expected.low, abs=0.1 * width)
    assert found["high"] == pytest.approx(expected.high, abs=0.1 * width)
