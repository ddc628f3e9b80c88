import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from bfjax import models
from bfjax.evaluation import runner
from bfjax.evaluation.specification import parse_attack
from experiments import (
    calibrate,
    directions,
    figure2,
    nearness,
    optimizers,
    recorded,
    table1,
    table2,
    tables,
    transfer,
    tuning,
    white_box,
)
from tests.evaluation.test_attack import checkpoint


@pytest.mark.slow
def test_white_box_runs_resumes_and_draws_up_its_table(tmp_path, monkeypatch):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(white_box, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(white_box, "MIN_DEGREES", (2,))
    config = white_box.Config(model=checkpoint(tmp_path / "model"), data="phantom", batch_size=64)
    white_box.main(config)
    table = (tmp_path / "results" / "model" / "table.md").read_text(encoding="utf-8")
    for number, name in enumerate(white_box.SETTINGS):
        file = tmp_path / "results" / "model" / f"setting{number}-D0=2.json"
        judged = json.loads(file.read_text(encoding="utf-8"))["targets"]["model"]
        expected = f"| {name} | {100 * judged['rate']:.1f} ({judged['fooled']}/{judged['correct']})"
        assert expected in table
        whole = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
        assert f"| {name} | model | {100 * judged['rate']:.1f} |" in whole
    shards = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    white_box.main(config)
    assert shards == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}


@pytest.mark.slow
def test_figure2_attacks_all_and_draws_what_both_fields_fool(tmp_path, monkeypatch):
    monkeypatch.setattr(figure2, "RESULTS", tmp_path / "figure2")
    model = checkpoint(tmp_path / "model")
    figure2.main(figure2.Config(model=model, data="phantom", num_images=20, batch_size=8))
    summary = json.loads((tmp_path / "figure2" / "eq3-step-0.06.json").read_text(encoding="utf-8"))
    assert summary["images"] == 20
    assert 0 <= summary["fooled"] <= summary["correct"] <= 20
    losses = summary["mean_cross_entropy"]
    assert losses["adversarial"] > losses["clean"]
    with Image.open(tmp_path / "figure2" / "figure2.png") as picture:
        assert picture.width > 600
    assert (tmp_path / "figure2" / "figure2.pdf").read_bytes().startswith(b"%PDF")


@pytest.fixture(autouse=True)
def cells(tmp_path, monkeypatch):
    """Where finished cells are recorded."""
    monkeypatch.setattr(recorded, "CELLS", tmp_path / "cells")
    return tmp_path / "cells"


@pytest.fixture
def classifiers(tmp_path, monkeypatch):
    """Two small ones, taken for two of the paper's."""
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(tables._ARCHITECTURES, "convnet", "ResNet50")
    mobile = models.build("mobilenet_v1", num_classes=2, channels=1, width=0.05)
    known = {"class_names": ("NORMAL", "PNEUMONIA"), "image_size": 32, "resize": "squash"}
    models.save(mobile, tmp_path / "mobile", metadata=known)
    return tmp_path / "mobile", checkpoint(tmp_path / "net")


@pytest.mark.slow
def test_table1_has_the_papers_rows_and_counts_of_its_own(classifiers, tmp_path, monkeypatch):
    monkeypatch.setattr(table1, "RESULTS", tmp_path / "results")
    classifiers = (*classifiers, checkpoint(tmp_path / "dense", seed=1))
    called = {"net": "ResNet50", "dense": "DenseNet121", "mobile": "MobileNet"}
    monkeypatch.setattr(
        tables, "names", lambda models: {n: c for n, c in called.items() if tmp_path / n in models}
    )
    few = {"ours": "bias_field(degree=2, grid_size=3, num_steps=1)", "low-degree": "fgsm"}
    monkeypatch.setattr(table1, "ATTACKS", few)
    monkeypatch.setattr(table1, "SEARCHES", {"foolbox2-fgsm": "fgsm"})
    options = {"data": "phantom", "batch_size": 6, "num_images": 12, "search_images": 6}

    def lines():
        text = (tmp_path / "results" / "table1.md").read_text(encoding="utf-8")
        return [line.split(" | ") for line in text.splitlines()[4:]]

    # one model attacked at first, and judged by two
    table1.main(table1.Config(models=classifiers[:2], attacked=("net",), **options))
    assert [line[:2] for line in lines()] == [
        ["| ResNet50", "ours"], ["| ResNet50", "ours, made to transfer"],
        ["| ResNet50", "FGSM, smallest"],
    ]  # fmt: skip
    assert all(line[3].startswith("-") for line in lines())  # DenseNet121 has not judged
    before = {p: p.read_bytes() for p in tmp_path.rglob("*/shards/*.parquet")}
    attacked = []
    real = runner.attack_images
    monkeypatch.setattr(
        runner, "attack_images", lambda cell, *rest: attacked.append(cell) or real(cell, *rest)
    )
    table1.main(table1.Config(models=classifiers, **options))
    assert not [cell for cell in attacked if cell.shard(0) in before]
    assert attacked
    # all is recorded: without the runs themselves the same tables, and nothing is attacked
    tables_of = {p.name: p.read_bytes() for p in (tmp_path / "results").iterdir()}
    shutil.rmtree(tmp_path / "home")
    attacked.clear()
    table1.main(table1.Config(models=classifiers, **options))
    assert not attacked
    assert {p.name: p.read_bytes() for p in (tmp_path / "results").iterdir()} == tables_of
    lines = lines()
    assert len(lines) == 3 * (len(table1.ATTACKS) + 1) + 3
    assert lines[0][:2] == ["| ResNet50", "ours"]
    assert "[38.69]" in lines[0][2]
    assert all("/" in cell for line in lines[:-3] for cell in line[2:5])
    cells = json.loads((tmp_path / "results" / "table1.json").read_text(encoding="utf-8"))["cells"]
    assert cells["ours"]["net"]["images"] == 12
    assert cells["ensemble"]["net"]["targets"].keys() == {"mobile", "net", "dense"}
    text = (tmp_path / "results" / "short.md").read_text(encoding="utf-8").splitlines()
    assert text[2].split(" | ")[1:4] == ["R → R", "R → D", "R → M"]
    cell = cells["ours"]["net"]["targets"]["dense"]
    ways = ", ".join(tables.whole(one["rate"]) for one in cell["directions"].values())
    assert text[4].split(" | ")[2] == f"{100 * cell['rate']:.0f} ({ways}) [14]"
    clean = np.mean([cell["mean_brisque_clean"] for cell in cells["ours"].values()])
    assert text[4].split(" | ")[-1].startswith(f"{clean:.1f} ")
    assert lines[0][5].startswith(f"{cells['ours']['net']['mean_brisque_clean']:.2f} → ")
    assert "\\toprule" in (tmp_path / "results" / "table1.tex").read_text(encoding="utf-8")
    paired = json.loads((tmp_path / "results" / "paired.json").read_text(encoding="utf-8"))
    assert paired["tests"].keys() == {
        f"{attack} on {source}" for attack in ("low-degree", "foolbox2-fgsm")
        for source in ("net", "mobile", "dense")
    }  # fmt: skip


def test_two_attacks_are_compared_on_the_images_they_share():
    def row(file, clean, adversarial):
        kinds = {"clean": clean, "adversarial": adversarial}
        predictions = {f"net:{kind}_prediction": value for kind, value in kinds.items()}
        return {"file": file, "label": "ill", "clean_prediction": "well"} | predictions

    first = [row("a", "ill", "well"), row("b", "ill", "ill"), row("c", "well", "well")]
    first.append(row("alone", "ill", "well"))
    second = [row("c", "well", "ill"), row("b", "ill", "well"), row("a", "ill", "ill")]
    labels, clean, one, two = tables.outcomes(first, second, prefix="net:")
    assert labels.tolist() == [0, 0, 0]
    assert clean.tolist() == [0, 0, 1]
    assert one.tolist() == [1, 0, 1]
    assert two.tolist() == [0, 1, 0]
    assert [len(values) for values in tables.outcomes(first, [])] == [0] * 4


def test_experiments_on_the_same_models_and_images_share_their_runs(classifiers, monkeypatch):
    one = table1.Config(models=classifiers, data="phantom", num_images=12)
    other = table2.Config(models=classifiers[::-1], data="phantom", sweep_images=12)
    mobile, net = classifiers
    assert tables.folder(one, net) == tables.folder(other, net, num_images=12)
    assert tables.folder(one, net) != tables.folder(other, net)
    assert tables.folder(one, net) != tables.folder(one, net, split="train")
    assert tables.folder(one, net) != tables.folder(one, mobile)
    monkeypatch.setattr(tables, "_LARGE", {models.load_config(net).architecture})
    large = dataclasses.replace(one, num_images=None, large_images=12)
    assert tables.folder(large, net) == tables.folder(one, net)
    assert tables.folder(large, mobile) != tables.folder(one, mobile)
    assert tables.folder(large, f"{net}+{mobile}") == tables.folder(one, f"{net}+{mobile}")
    assert tables.folder(large, net, num_images=3) == tables.folder(one, net, num_images=3)
    assert tables.folder(one, net, measure=False) != tables.folder(one, net)
    alone = dataclasses.replace(one, models=classifiers[:1])  # who judges is no part of it
    assert tables.folder(one, mobile) == tables.folder(alone, mobile)
    with pytest.raises(ValueError, match="--attacked nobody is none of --models"):
        tables.run(dataclasses.replace(one, attacked=("nobody",)), {})
    default = tables.attack(grid_size=16, min_degree=1)
    assert default == tables.attack(degree=10) == ("ours", table1.ATTACKS["ours"])
    assert tables.attack(max_change=0.2) == ("max_change=0.2", "paper(max_change=0.2)")


def test_the_committed_cells_are_of_the_attacks_of_today():
    """Else a table would be drawn from other attacks than it names, or everything run again."""
    committed = Path(recorded.__file__).parent / "results" / "cells"
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in committed.glob("*.json")]
    known = [(name, one["summary"]) for file in cells for name, one in file["attacks"].items()]
    texts = table1.ATTACKS | table1.SEARCHES
    texts |= dict(tables.attack(grid_size=size, min_degree=low) for size, low in table2.GRID)
    texts |= dict(tables.attack(degree=degree) for degree in table2.DEGREES)
    for name, text in texts.items():
        found = [summary for called, summary in known if called == name]
        assert found, name
        for summary in found:
            assert recorded.is_complete(summary, text, {}, measure=False), name


@pytest.mark.slow
def test_table2_sweeps_what_it_says(classifiers, tmp_path, monkeypatch):
    monkeypatch.setattr(table2, "RESULTS", tmp_path / "results")
    for name, few in {"GRID": ((4, 2),), "DEGREES": (2,), "STRENGTHS": (0.05, 0.2)}.items():
        monkeypatch.setattr(table2, name, few)
    options = {"data": "phantom", "batch_size": 8, "num_images": 8, "sweep_images": 8}
    table2.main(table2.Config(models=classifiers[1:], **options))
    found = json.loads((tmp_path / "results" / "strength.json").read_text(encoding="utf-8"))
    weak, strong = (found["cells"][f"max_change={bound}"]["net"] for bound in (0.05, 0.2))
    assert weak["mean_max_change"] < strong["mean_max_change"] <= 0.2 + 1e-6
    for name in ("degree.png", "strength.png"):
        with Image.open(tmp_path / "results" / name) as picture:
            assert picture.width > 600


@pytest.mark.slow
def test_directions_are_those_of_the_runs_that_the_tables_share(classifiers, tmp_path, monkeypatch):
    monkeypatch.setattr(directions, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(directions, "MIN_DEGREES", (1, 3))
    config = directions.Config(models=classifiers, data="phantom", batch_size=8, num_images=8)
    attack, sources = dict([tables.attack()]), [str(classifiers[0])]
    tables.run(config, attack, sources=sources, measure=False)  # which are no part of a table
    known = dataclasses.replace(config, attacked=("net",))
    assert tables.run(known, attack, sources=sources) == {"ours": {}}
    ours = tables.run(config, attack, sources=sources)["ours"]
    directions.main(config)
    found = json.loads((tmp_path / "results" / "directions.json").read_text(encoding="utf-8"))
    assert found["cells"]["mobile"]["ours"]["run"] == ours["mobile"]["run"]  # not made again
    assert set(found["cells"]["net"]) == {"ours", "min_degree=3"}
    lines = (tmp_path / "results" / "directions.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 + 4
    rate = found["cells"]["net"]["ours"]["targets"]["net"]
    assert f"{rate['fooled']}/{rate['correct']}" in lines[-2]


@pytest.mark.slow
def test_optimizers_are_tuned_on_other_images_and_drawn(classifiers, tmp_path, monkeypatch):
    monkeypatch.setattr(optimizers, "RESULTS", tmp_path / "results")
    for name, few in {
        "OPTIMIZERS": {"sign": optimizers.OPTIMIZERS["sign"]},
        "STEP_SIZES": {"sign": (0.01, 0.1)},
        "STEPS": (1,),
    }.items():
        monkeypatch.setattr(optimizers, name, few)
    options = {"data": "phantom", "batch_size": 8, "num_images": 8, "tuning_images": 8}
    optimizers.main(optimizers.Config(models=classifiers[1:], **options))
    found = json.loads((tmp_path / "results" / "optimizers.json").read_text(encoding="utf-8"))
    assert set(found["cells"]) == {"sign-1"}
    rates = found["tried"]["sign-1"]
    assert set(rates) == {"0.01", "0.1"}
    assert rates[str(found["tuned"]["sign-1"])] == max(rates.values())
    title = (tmp_path / "results" / "optimizers.md").read_text(encoding="utf-8").splitlines()[0]
    assert "on 8 training images" in title
    assert "OpenCV's LIVE model" in title
    assert all(seconds > 0 for seconds in found["seconds_of_a_step"].values())
    with Image.open(tmp_path / "results" / "optimizers.png") as picture:
        assert picture.width > 900


@pytest.mark.slow
def test_variants_are_ranked_by_transfer_and_told_quiet_from_loud(
    classifiers, tmp_path, monkeypatch
):
    monkeypatch.setattr(transfer, "RESULTS", tmp_path / "results")
    few = {
        "ours": "bias_field(degree=2, grid_size=2, max_change=0.1)",
        "weak": "bias_field(degree=2, grid_size=2, max_change=0.1, step_size=0.001)",
        "loud": "bias_field(degree=2, grid_size=2, max_change=0.6, step_size=0.2)",
    }
    monkeypatch.setattr(transfer, "VARIANTS", few)
    options = {"data": "phantom", "batch_size": 8, "num_images": 8}
    transfer.main(transfer.Config(models=classifiers, **options))
    lines = (tmp_path / "results" / "transfer.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("ResNet50 attacked on 8 training images")  # the last of the models
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert {text for text, *_ in rows} == set(few.values())
    rates = [float(row[2]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    fields = {row[0]: float(row[5]) for row in rows}
    quiet = {row[0]: row[1] for row in rows}
    assert fields[few["weak"]] < fields[few["ours"]] < fields[few["loud"]]
    assert quiet[few["ours"]] == "yes"
    assert quiet[few["loud"]] == "no"


@pytest.mark.parametrize("name", transfer.VARIANTS)
def test_every_variant_can_be_made(name):
    assert parse_attack(transfer.VARIANTS[name], (8, 8, 1)).num_steps in (1, 10, 20)


def test_the_best_step_size_is_found_from_anywhere():
    sizes = (1, 2, 4, 8, 16, 32)
    for peak in sizes:
        for begin in ({}, {1: (0.0, 0.0)}, {32: (0.0, 0.0)}):
            scores = {}
            while left := [s for s in tuning.around(scores or begin, sizes) if s not in scores]:
                scores |= {s: (1 / (1 + abs(s - peak)), 0.0) for s in left}
            assert tuning.best(scores) == peak
    assert tuning.best({4: (0.0, 0.5), 1: (0.0, 0.5), 8: (0.0, 0.4)}) == 1


def test_a_network_that_gives_one_answer_scores_nothing():
    def judged(first, second, rate):
        return {"rate": rate, "directions": {"a": {"rate": first}, "b": {"rate": second}}}

    assert tuning.score(judged(1.0, 0.0, 0.6)) == (0.0, 0.6)
    assert tuning.score(judged(0.25, 0.16, 0.2)) == pytest.approx((0.2, 0.2))
    assert tuning.score(judged(0.3, None, 0.3)) == (0.0, 0.3)  # none right of that class


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_transformation_makes_an_attack_at_every_step_size(name):
    for size in optimizers.STEP_SIZES[name]:
        attack = parse_attack(optimizers.attack(name, 5, size)[1], (8, 8, 1))
        assert attack.num_steps == 5
        attack.optimizer.init(attack.perturbation.init(jnp.full((8, 8, 1), 0.5), None))


@pytest.mark.slow
def test_calibration_searches_some_images_and_judges_the_best_on_others(
    classifiers, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibrate, "RESULTS", tmp_path / "results")
    bounds = ({"max_change": 0.0001, "degree": 2}, {"max_change": 0.3, "degree": 2})
    monkeypatch.setattr(calibrate, "DETAILS", {"bound": bounds})
    monkeypatch.setattr(calibrate, "FOLDING", ({"max_warp_gradient": None},))
    monkeypatch.setattr(calibrate, "CHECKS", ({"num_steps": 1},))
    rows = ((2, 0), (3, 0))
    monkeypatch.setattr(nearness, "ROWS", rows)
    columns = (*tables.COLUMNS, "BRISQUE")
    pairs = [nearness.pair(row, s, c) for row in rows for s in tables.COLUMNS for c in columns]
    monkeypatch.setattr(nearness, "paper", lambda: {pair: [30.0] for pair in pairs})
    config = calibrate.Config(
        models=classifiers,
        data="phantom",
        batch_size=6,
        num_images=12,
        search_images=6,
        finalists=1,
        final_images=6,
    )
    calibrate.main(config)
    text = (tmp_path / "results" / "calibrate.json").read_text(encoding="utf-8")
    found = json.loads(text)
    known = found["tried"] | found["checks"] | found["folding"] | found["finalists"]
    assert calibrate.earlier(config) == known
    assert not calibrate.earlier(dataclasses.replace(config, seed=1))
    assert len(found["checks"]) == len(found["folding"]) == 1
    assert not found["folding"].keys() & found["tried"].keys()
    assert len(found["tried"]) == 2
    # two rows: one attacked, two judge all and each class; BRISQUE, of the last row against itself
    assert {len(figures) for figures in found["tried"].values()} == {14}
    last = [one for figures in found["tried"].values() for key, one in figures.items()
            if "grid 3" in key and "BRISQUE" in key]  # fmt: skip
    assert last == [0, 0]
    settings, of = zip(*(name.split("; ") for name in found["finalists"]), strict=True)
    assert len(set(settings)) == 1
    assert [one.split(", ")[1] for one in of] == ["6 images", "not searched", "all"]
    assert str(tmp_path) not in text
    lines = (tmp_path / "results" / "calibrate.md").read_text(encoding="utf-8").splitlines()[4:]
    told = [line.split("|")[2].strip() for line in lines]
    assert told == [*of, "search", "search", "search, a check", "search, folds"]


def test_a_bar_in_a_cell_ends_no_column(tmp_path):
    tables.write(tmp_path / "one", "A title.", ("|X_a - X|", "max |B̂|"), [["1", "2"]], {})
    lines = (tmp_path / "one.md").read_text(encoding="utf-8").splitlines()
    assert lines[2:] == [r"| \|X_a - X\| | max \|B̂\| |", "|---|---|", "| 1 | 2 |"]
    latex = (tmp_path / "one.tex").read_text(encoding="utf-8")
    assert r"$|X_a - X|$ & max $|\hat{B}|$ \\" in latex


def test_two_checkpoints_of_one_architecture_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="none of the paper's classifiers"):
        tables.names([checkpoint(tmp_path / "a")])
    monkeypatch.setitem(tables._ARCHITECTURES, "convnet", "ResNet50")
    with pytest.raises(ValueError, match="stand for the same classifier"):
        tables.names([tmp_path / "a", checkpoint(tmp_path / "b")])


def test_calibration_measures_distance_to_both_tables():
    known = nearness.paper()
    assert known["grid 16, D0=1, ResNet50 → ResNet50"] == [36.89, 38.69]  # the tables differ there
    assert known["grid 16, D0=3, MobileNet → DenseNet121"] == [3.47]
    assert known["grid 4, D0=0, MobileNet → MobileNet"] == [35.68]
    change = known["grid 16, D0=0, MobileNet → BRISQUE"]
    assert change == [pytest.approx(34.0944 - 29.2909)]
    assert len(known) == 7 * 3 * 4
    exact = {key: sum(values) / len(values) for key, values in known.items()}
    off = {key: rate + 3 for key, rate in exact.items()}
    assert nearness.distance(exact) < 1.1 < nearness.distance(off)
    by_class = {f"{key}, NORMAL": 0.0 for key in known}  # of which the paper does not speak
    assert nearness.distance(exact | by_class) == nearness.distance(exact)
    assert nearness.distance({"grid 16, D0=3, MobileNet → DenseNet121": 6.47}) == pytest.approx(3)


def test_calibration_finds_the_best_of_separable_readings_and_asks_once():
    asked = []

    def distance(setting):
        asked.append(setting)
        return sum(abs(i - wanted) for i, wanted in zip(setting, (1, 2, 2, 0, 1, 0), strict=True))

    assert calibrate.descend(distance) == (1, 2, 2, 0, 1, 0)
    for setting in set(asked):  # each is an attack that can be made
        parse_attack(nearness.attack(calibrate.readings(setting), (16, 1))[1], (16, 16, 1))


@pytest.mark.parametrize(
    ("text", "judges", "measure", "complete"),
    [
        ("bim", {"a": "1"}, True, False),  # success alone was recorded
        ("bim", {"a": "1"}, False, True),
        ("bim", {"a": "1", "b": "2"}, False, False),  # b has not judged
        ("bim", {"a": "3"}, False, False),  # other weights
        ("fgsm", {"a": "1"}, False, False),
    ],
)
def test_a_record_serves_only_what_it_is_of(text, judges, measure, complete):
    known = {"attack": "bim", "measure": False, "models": {"a": {"sha256": "1"}}}
    found = {"settings": known, "targets": {"a": {"rate": 0.5}}}
    assert recorded.judged_by(found, judges) == ({} if "3" in judges.values() else found["targets"])
    assert recorded.is_complete(found, text, judges, measure=measure) == complete
    assert not recorded.is_complete(None, text, judges, measure=measure)


def test_calibration_judges_some_images_apart(tmp_path, monkeypatch):
    options = {"max_change": 0.05}
    scores = {"1": 30.0, "2": 32.0, "3": 34.0, "4": 36.0}

    def brisque(folder, chosen):
        more = 4.0 if "min_degree=0" in folder.parent.name else 0.0
        kept = [score for name, score in scores.items() if chosen is None or name in chosen]
        return more + sum(kept) / len(kept)

    monkeypatch.setattr(nearness, "_brisque", brisque)
    settings = {"class_names": ["N", "P"], "data": "phantom"}
    summary = json.dumps({"settings": settings, "targets": {"a": {}, "b": {}}})
    head = "file,label,clean_prediction,adversarial_prediction"
    head += ",b:clean_prediction,b:adversarial_prediction"
    rows = ["1,N,N,P,N,N", "2,N,N,N,N,P", "3,P,P,P,N,P", "4,P,N,P,P,P"]
    for row in nearness.ROWS:
        folder = tmp_path / nearness.attack(options, row)[0] / "a"
        folder.mkdir(parents=True)
        (folder / "records.csv").write_text("\n".join([head, *rows]) + "\n")
        (folder / "summary.json").write_text(summary)
        recorded.keep(tmp_path, nearness.attack(options, row)[0], "a")
    names = {"a": "ResNet50", "b": "MobileNet"}
    found = nearness.rates({"a": tmp_path}, options, names)
    assert found["grid 16, D0=0, ResNet50 → ResNet50"] == pytest.approx(
        100 / 3
    )  # 4 was wrong when clean
    assert found["grid 16, D0=0, ResNet50 → ResNet50, N"] == 50
    assert found["grid 16, D0=0, ResNet50 → ResNet50, P"] == 0
    assert found["grid 16, D0=2, ResNet50 → MobileNet"] == pytest.approx(100 / 3)
    half = nearness.rates({"a": tmp_path}, options, names, chosen={"2", "3"})
    assert half["grid 16, D0=0, ResNet50 → ResNet50"] == 0
    assert half["grid 16, D0=0, ResNet50 → MobileNet"] == 100
    assert half["grid 8, D0=0, ResNet50 → BRISQUE"] == 4
    assert half["grid 16, D0=1, ResNet50 → BRISQUE"] == 0
