"""Models that come to judge attacked images which are there already."""

import csv
import json

import pytest

from bfjax import storage
from bfjax.evaluation import EvaluateConfig, commands, of_cell, runner, verdicts
from tests.evaluation.test_attack import checkpoint

COUNT, BATCH = 10, 4
ATTACKS = {
    "ours": "bias_field(degree=3, grid_size=3, num_steps=2)",
    "search": "smallest_step(fgsm(epsilon=1.0), num_steps=5, num_finer=2)",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = ("one", "two", "three")
    return [str(checkpoint(folder / name, seed=i)) for i, name in enumerate(names)]


def options(models, out, **changes):
    wanted = {
        "sources": tuple(models[:1]), "targets": tuple(models[1:]), "attacks": ATTACKS,
        "data": "phantom", "num_images": COUNT, "batch_size": BATCH, "store_all": True,
    }  # fmt: skip
    return EvaluateConfig(out=out, **wanted | changes)


def run(models, out, **changes):
    return commands.evaluate_models(options(models, out, **changes))


def rows(out, attack):
    with (out / attack / "one" / "records.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def counted(monkeypatch):
    """The numbers of images that were attacked from now on, a batch each."""
    attacked, real = [], runner.attack_images

    def counting(cell, split, images, *rest):
        attacked.append(len(images))
        return real(cell, split, images, *rest)

    monkeypatch.setattr(runner, "attack_images", counting)
    return attacked


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """A run that all three judged from the start: its folder, its summary."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(models, out)


@pytest.mark.slow
def test_who_comes_later_finds_what_it_would_have_found_at_once(
    models, whole, tmp_path, monkeypatch
):
    run(models[:1], tmp_path)
    before = json.loads((tmp_path / "ours" / "one" / "summary.json").read_text(encoding="utf-8"))
    attacked = counted(monkeypatch)
    config = options(models, tmp_path)
    cell = commands.evaluation_cells(config)["ours"]["one"]
    found = of_cell(cell)
    assert found.work == f"{COUNT} images, to be judged by two, three"
    assert found.seconds > 0
    run(models[:2], tmp_path)
    found = run(models, tmp_path)
    assert not attacked
    assert found["attacks"] == whole[1]["attacks"]
    for attack in ATTACKS:
        assert rows(tmp_path, attack) == rows(whole[0], attack)
        cells = [out / attack / "one" for out in (tmp_path, whole[0])]
        settings = [json.loads((cell / "settings.json").read_text("utf-8")) for cell in cells]
        assert list(settings[0]["models"].items()) == list(settings[1]["models"].items())
        summaries = [json.loads((cell / "summary.json").read_text("utf-8")) for cell in cells]
        assert summaries[0]["targets"] == summaries[1]["targets"]
    after = json.loads((tmp_path / "ours" / "one" / "summary.json").read_text(encoding="utf-8"))
    assert after["run"] == before["run"]  # of the attack, which was made then


@pytest.mark.slow
def test_what_cannot_be_made_again_is_not_lost(models, tmp_path):
    """Without its pixels, a shard is made anew for a model that comes later."""
    pixels = {"attacks": {"bim": "bim(num_steps=1)"}, "store_all": False}
    run(models[:2], tmp_path, **pixels)
    before = rows(tmp_path, "bim")
    with pytest.raises(ValueError, match=r"holds what two said.*name two among the models"):
        run([models[0], models[2]], tmp_path, **pixels)
    assert rows(tmp_path, "bim") == before
    found = run(models, tmp_path, **pixels)
    assert set(found["attacks"]["bim"]["targets"]) == {"one", "two", "three"}


def test_who_stays_away_leaves_what_it_said(models, whole, tmp_path):
    run(models[:2], tmp_path)
    found = run([models[0], models[2]], tmp_path)
    assert found["attacks"]["ours"]["targets"] == ["one", "two", "three"]
    assert found["attacks"] == whole[1]["attacks"]
    run(models[:1], tmp_path)
    assert rows(tmp_path, "ours") == rows(whole[0], "ours")


def test_a_later_judge_that_was_interrupted_goes_on(models, whole, tmp_path, monkeypatch):
    only = {"attacks": {"ours": ATTACKS["ours"]}}
    run(models[:1], tmp_path, **only)
    real, times = storage.add_columns, []

    def interrupted(path, columns):
        times.append(path)
        if len(times) == 2:
            raise KeyboardInterrupt
        real(path, columns)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "add_columns", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(models, tmp_path, **only)
    # what had been judged before is whole, and another may come in between
    found = run(models[:2], tmp_path, **only)
    assert set(found["attacks"]["ours"]["targets"]) == {"one", "two"}
    assert "three:clean_prediction" not in rows(tmp_path, "ours")[0]
    asked, answers = [], verdicts.answers

    def counting(target, *rest, **options):
        asked.append(target.name)
        return answers(target, *rest, **options)

    monkeypatch.setattr(verdicts, "answers", counting)
    assert run(models, tmp_path, **only)["attacks"]["ours"] == whole[1]["attacks"]["ours"]
    assert (
        asked == ["three"] * 4 * 2
    )  # clean, attacked, PNG, JPEG of the two shards it had not seen
    names = rows(whole[0], "ours")[0].keys()
    assert [[row[name] for name in names] for row in rows(tmp_path, "ours")] == [
        list(row.values()) for row in rows(whole[0], "ours")
    ]


@pytest.mark.slow
def test_images_that_were_not_stored_are_attacked_again(models, tmp_path, monkeypatch):
    only = {"attacks": {"bim": "bim(num_steps=2)"}, "store_all": False}
    run(models[:1], tmp_path, **only)
    attacked = counted(monkeypatch)
    run(models[:2], tmp_path, **only)
    assert sum(attacked) == COUNT
    assert "two:adversarial_prediction" in rows(tmp_path, "bim")[0]


def test_a_judge_whose_weights_changed_is_named(models, tmp_path):
    only = {"attacks": {"ours": ATTACKS["ours"]}}
    again = [models[0], str(checkpoint(tmp_path / "two", seed=1))]
    run(again, tmp_path / "out", **only)
    checkpoint(tmp_path / "two", seed=5)
    with pytest.raises(ValueError, match="holds results of another two: its sha256 was"):
        run(again, tmp_path / "out", **only)


@pytest.mark.slow
def test_an_optimizer_that_diverges_is_blamed_not_the_model(models, tmp_path):
    infinite = "optax.chain(optax.sgd(1e38), optax.scale(1e38))"
    diverging = {"diverging": f"bias_field(degree=2, grid_size=2, optimizer={infinite})"}
    with pytest.raises(ValueError, match=r"attacked, .+ is NaN: the optimizer diverged"):
        run(models[:1], tmp_path, attacks=diverging)
