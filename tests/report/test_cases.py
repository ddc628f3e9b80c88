import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from bfjax import data
from bfjax.evaluation import EvaluateConfig, commands
from bfjax.evaluation.maps import map_of
from bfjax.report import cases, loading, pictures
from tests.report.conftest import COUNT, RUN, SIZE, outcome, rows_of, write_map


@pytest.fixture(scope="module")
def drawn(several):
    run = loading.load(several).runs[0]
    return list(cases.draw(7, run, [1, 2], where=None))


def test_facts_are_those_of_the_records(drawn, several):
    rows = rows_of(several / "ours" / "one")
    for case, i in zip(drawn, (1, 2), strict=True):
        assert case.name == f"07-{i:07d}.webp"
        facts, row = case.facts, rows[i]
        assert (facts["run"], facts["file"], facts["label"]) == (7, row["file"], row["label"])
        assert facts["change"] == pytest.approx(float(row["max_change"]))
        assert facts["mean"] == pytest.approx(float(row["mean_change"]))
        largest = np.abs(np.log(facts["field"])).max()
        assert largest == pytest.approx(float(row["max_log_field"]), abs=1e-5)
        own, other = facts["judged"]
        assert own[0] == row["clean_prediction"]
        assert own[3] == pytest.approx(float(row["adversarial_score"]))
        assert other[2] == row["two:adversarial_prediction"]
        assert tuple(facts["size"]) == (SIZE, SIZE)
        json.dumps(facts, allow_nan=False)


def test_panels_show_the_images_and_the_map_where_there_is_one(drawn):
    assert [case.facts["panels"] for case in drawn] == ["cafd", "cafds"]
    source = data.load("phantom", "test", image_size=SIZE)
    with Image.open(io.BytesIO(drawn[0].picture)) as opened:
        found = np.asarray(opened.convert("L"), float)
    pitch = SIZE + 2 * pictures.GUTTER
    clean, adversarial = (found[:, k * pitch + pictures.GUTTER :][:, :SIZE] for k in (0, 1))
    exact = source[1]["image"][..., 0].astype(float)
    assert abs(clean - exact).mean() < 6  # of 255
    changed = abs(adversarial - exact).mean() / 255
    assert changed == pytest.approx(drawn[0].facts["mean"], abs=0.03)


def test_maps_are_read_by_their_index(tmp_path):
    assert map_of(tmp_path / "explain" / "shards", 0) is None
    rng = np.random.default_rng(0)
    maps = {3: rng.uniform(size=(4, 6)), 17: rng.uniform(size=(5, 2))}
    for row, values in maps.items():
        write_map(tmp_path, row, values)
    for row, values in maps.items():
        np.testing.assert_array_equal(map_of(tmp_path / "explain" / "shards", row), values)
    assert map_of(tmp_path / "explain" / "shards", 4) is None


def test_all_cases_are_chosen_or_as_many_as_wanted(several):
    runs = loading.load(several).runs  # those of the second attack have no parameters
    assert cases.choose(runs, None) == [list(range(COUNT)), list(range(COUNT)), [], [], [], []]
    assert cases.choose(runs, 0) == [[]] * 6
    chosen = cases.choose(runs, 7)
    assert [len(rows) for rows in chosen] == [4, 3, 0, 0, 0, 0]
    assert all(rows == sorted(set(rows)) for rows in chosen)
    for rows, name in zip(chosen[:2], ("one", "two"), strict=True):
        records = rows_of(several / "ours" / name)
        fooled = [outcome(record) for record in records].count("fooled")
        found = [outcome(records[i]) for i in rows].count("fooled")
        assert found >= min(fooled, 3 * len(rows) // 4)
    with pytest.raises(ValueError, match="--max-cases must not be negative, got -1"):
        cases.choose(runs, -1)
    assert list(cases.draw(0, runs[2], [], where="no/such/data")) == []


@pytest.mark.slow
def test_attacks_without_a_field_are_drawn_without_one(models, tmp_path):
    attacks = {"sign": "fgsm(epsilon=0.05)", "search": "carlini_wagner_l2(max_steps=2)"}
    options = RUN | {"num_images": 2, "batch_size": 2, "store_all": True}
    run = EvaluateConfig(sources=(str(models[0]),), attacks=attacks, out=tmp_path, **options)
    commands.evaluate_models(run)
    for run in loading.load(tmp_path).runs:
        assert cases.choose([run], None) == [[0, 1]]
        for case in cases.draw(0, run, [0, 1], where=None):  # which checks the mean change
            assert case.facts["panels"] == "cad"
            assert case.facts["field"] is None
            json.dumps(case.facts, allow_nan=False)


def changed(run, **settings):
    return dataclasses.replace(run, settings=run.settings | settings)


def test_data_that_are_not_there_or_not_the_same_are_named(single):
    run = loading.load(single).runs[0]
    with pytest.raises(FileNotFoundError, match=r"no/such/data.*--data says where"):
        next(cases.draw(0, run, [0], where="no/such/data"))
    with pytest.raises(ValueError, match=r"PhantomSource.*does not hold the images of"):
        next(cases.draw(0, changed(run, seed=5), [0], where=None))


def test_other_images_of_the_same_names_are_named(single, tmp_path):
    source = data.load("phantom", "test", image_size=SIZE, num_examples=COUNT)
    for record in source:
        path = tmp_path / "images" / record["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - record["image"][..., 0]).save(path)
    run = changed(loading.load(single).runs[0], split="all")
    where = str(tmp_path / "images")
    with pytest.raises(ValueError, match="does not hold the images of"):  # in another order
        next(cases.draw(0, run, [1], where=where))
    folder = data.load(where, "all", image_size=SIZE)
    order = [source.names.index(name) for name in folder.names]
    shards = tmp_path / "run" / "shards"
    shards.mkdir(parents=True)
    pa.parquet.write_table(run.read().take(order), shards / "0000000.parquet")
    with pytest.raises(ValueError, match=r"phantom0-test-00000.*not the image that was attacked"):
        next(cases.draw(0, dataclasses.replace(run, folder=tmp_path / "run"), [0], where=where))
