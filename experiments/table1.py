"""Table 1: success, white-box and transferred, and BRISQUE of ours and of every baseline.

    python -m experiments.table1 --models RESNET50 DENSENET121 MOBILENET --data chest_xray

Beside the paper's rows, with its figures in brackets, stand the baselines at a fixed ε of 0.1, a
random smooth field of the same parameter budget, and a field made to transfer: a low degree held by
a bound on itself, the best of `experiments.transfer`; as its own rows against the mean logits of
the other models. The baselines with foolbox 2's defaults are searches of thousands of steps; each
is run on a part of the test images, as large as --search-images says. A second table sets ours
against each other attack, image by image, where the same model judges (McNemar's test). The runs
lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume there.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tyro

from bfjax.metrics import McNemar, mcnemar
from experiments import recorded, tables, transfer
from experiments.tables import COLUMNS

RESULTS = Path(__file__).parent / "results" / "table1"

ATTACKS = {
    **dict([tables.attack()]),
    "random-field": "paper(start_noise=0.6, num_steps=1, optimizer=optax.set_to_zero())",
    "low-degree": transfer.VARIANTS[transfer.BEST],
    "fixed-bim": "fixed()['bim']",
    "fixed-fgsm": "fixed()['fgsm']",
    "fixed-mi_fgsm": "fixed()['mi_fgsm']",
}
SEARCHES = {
    f"foolbox2-{name}": f"foolbox2()['{name}']"
    for name in ("bim", "carlini_wagner_l2", "saliency_map", "fgsm", "mi_fgsm")
}
ROWS = {
    "ours": "ours",
    "random-field": "random field",
    "low-degree": "ours, made to transfer",
    "fixed-bim": "BIM, ε = 0.1",
    "fixed-fgsm": "FGSM, ε = 0.1",
    "fixed-mi_fgsm": "MI-FGSM, ε = 0.1",
    "foolbox2-bim": "BIM, smallest",
    "foolbox2-carlini_wagner_l2": "C&W L2",
    "foolbox2-saliency_map": "saliency map",
    "foolbox2-fgsm": "FGSM, smallest",
    "foolbox2-mi_fgsm": "MI-FGSM, smallest",
}

# The paper's Table 1: attacked on -> row -> (→ ResNet50, → DenseNet121, → MobileNet, BRISQUE). The
# order of its baselines is recovered: the names of the rows are lost in its text.
PAPER: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "ResNet50": {
        "ours": (38.69, 14.05, 7.57, 28.5703),
        "foolbox2-bim": (100, 0, 0.36, 30.02),
        "foolbox2-carlini_wagner_l2": (100, 0, 0.36, 30.11),
        "foolbox2-saliency_map": (100, 0.18, 1.08, 28.71),
        "foolbox2-fgsm": (67.8, 0.18, 0, 67.00),
        "foolbox2-mi_fgsm": (100, 0, 0.36, 30.06),
    },
    "DenseNet121": {
        "ours": (7.78, 34.49, 5.95, 28.9535),
        "foolbox2-bim": (0.54, 100, 0.36, 29.66),
        "foolbox2-carlini_wagner_l2": (1.08, 100, 0.72, 29.65),
        "foolbox2-saliency_map": (2.53, 100, 1.26, 28.40),
        "foolbox2-fgsm": (0.72, 29.38, 0.72, 28.58),
        "foolbox2-mi_fgsm": (0.54, 94.34, 0.36, 29.61),
    },
    "MobileNet": {
        "ours": (20.07, 18.98, 33.51, 29.5475),
        "foolbox2-bim": (0, 0, 100, 29.99),
        "foolbox2-carlini_wagner_l2": (0, 0, 100, 30.05),
        "foolbox2-saliency_map": (0.72, 0.18, 100, 30.84),
        "foolbox2-fgsm": (0, 0, 30.09, 28.54),
        "foolbox2-mi_fgsm": (0, 0, 100, 30.01),
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """Table 1: ours and the baselines, made on each model and judged by all."""

    search_images: int | None = 48
    """Test images for the searches, of MobileNet 128 or more; 0 leaves them out, none: all."""
    search_batch_size: int = 1
    """Images searched at once. They wait for the slowest of them, and on a CPU one image takes as
    long alone as among others; a GPU wants more."""


def main(config: Config) -> None:
    """Runs what is missing, then writes the table."""
    names = tables.names(config.models)
    folders = {folder.resolve().name: folder for folder in config.models}
    found = tables.run(config, ATTACKS)
    places = {
        (attack, name): tables.folder(config, folders[name])
        for attack, cells in found.items()
        for name in cells
    }
    slow = dataclasses.replace(config, batch_size=config.search_batch_size)
    for name, folder in folders.items() if config.search_images != 0 else ():
        count = config.search_images
        if count is not None and names[name] == "MobileNet":
            count = max(count, 128)
        searched = tables.run(slow, SEARCHES, sources=[str(folder)], num_images=count)
        for attack, cells in searched.items():
            found.setdefault(attack, {}).update(cells)
            places |= {(attack, n): tables.folder(slow, folder, num_images=count) for n in cells}
    if len(folders) > 2:  # two others or more
        found["ensemble"] = _ensembles(config, folders)
    rows = _rows(found, names)
    title = (
        "Success in %: fooled / right when clean by the model in the column (95 % interval), and "
        f"[the paper's]. {tables.QUALITY}."
    )
    head = ("attacked on", "attack", *(f"→ {column}" for column in COLUMNS), "BRISQUE", "images")
    tables.write(RESULTS / "table1", title, head, rows, {"cells": found, "models": names})
    title = (
        "Success in % (of NORMAL, of PNEUMONIA) [the paper's]; R → D: made on ResNet50, judged by "
        "DenseNet121. BRISQUE (OpenCV's LIVE model): clean, mean change where attacked, over the "
        "models attacked."
    )
    tables.write(RESULTS / "short", title, *short(found, names), {"models": names})
    tests = paired(places, names)
    title = (
        "Ours against each other attack on the same images: how many ours alone turned, how many "
        "the other alone, and McNemar's exact two-sided p."
    )
    head = ("attacked on", "attack", *(f"→ {name}" for name in names.values()))
    rows = [
        [names[source], ROWS[attack], *(_compared(row.get(judge)) for judge in names)]
        for (attack, source), row in tests.items()
    ]
    found = {f"{attack} on {source}": row for (attack, source), row in tests.items()}
    tables.write(RESULTS / "paired", title, head, rows, {"tests": found, "models": names})


def paired(
    places: Mapping[tuple[str, str], Path], names: Iterable[str]
) -> dict[tuple[str, str], dict[str, McNemar]]:
    """Ours against each other attack on the same images, for every model that judges.

    Args:
      places: (attack, source) to the folder of its run.
      names: of the models that judge.

    Returns:
      (attack, source), without ours, to name of the judge to the test's result, where it has judged
      both.
    """
    found = {}
    for (attack, source), place in places.items():
        if attack == "ours" or ("ours", source) not in places:
            continue
        ours = recorded.rows(places["ours", source], "ours", source)
        other = recorded.rows(place, attack, source)
        found[attack, source] = {}
        for judge in names:
            prefix = "" if judge == source else f"{judge}:"
            if f"{prefix}clean_prediction" in ours[0].keys() & other[0].keys():
                outcomes = tables.outcomes(ours, other, prefix=prefix)
                found[attack, source][judge] = mcnemar(*outcomes)
    return found


def short(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Table 1 with a row an attack and a column a pair of models, in whole per cent, by class too.

    Args:
      found: name of the attack to name of the model attacked to the cell's summary.
      names: of the models, and how the paper calls them.

    Returns:
      The head, and the rows of text; a dash where nothing is measured.
    """
    pairs = [(source, judge) for source in names for judge in names]
    head = ["attack", *(f"{names[s][0]} → {names[j][0]}" for s, j in pairs), "BRISQUE"]
    rows = []
    for attack, label in ROWS.items():
        if not (cells := found.get(attack)):
            continue
        row = [label]
        for source, judge in pairs:
            rate = cells.get(source, {"targets": {}})["targets"].get(judge, {"rate": None})
            paper = PAPER[names[source]].get(attack)
            beside = "" if paper is None else f" [{paper[COLUMNS.index(names[judge])]:.0f}]"
            ways = [tables.whole(one["rate"]) for one in rate.get("directions", {}).values()]
            by_class = f" ({', '.join(ways)})" if ways else ""
            row.append(tables.whole(rate["rate"]) + by_class + beside)
        clean = statistics.mean(cell["mean_brisque_clean"] for cell in cells.values())
        change = statistics.mean(cell["brisque_change"]["mean"] for cell in cells.values())
        rows.append([*row, f"{clean:.1f} {change:+.1f}"])
    return head, rows


def _ensembles(config: Config, folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The transfer variant on the mean logits of all models but the one that judges."""
    together = {
        judge: [str(folder) for name, folder in folders.items() if name != judge]
        for judge in folders
    }
    sources = ["+".join(others) for others in together.values()]
    cells = tables.run(config, {"ensemble": ATTACKS["low-degree"]}, sources=sources)["ensemble"]
    called = {
        judge: "+".join(Path(other).resolve().name for other in others)
        for judge, others in together.items()
    }
    return {judge: cells[name] for judge, name in called.items() if name in cells}


def _compared(test: McNemar | None) -> str:
    return "-" if test is None else "{} : {}, p = {:.2g}".format(*test)


def _rows(found: dict[str, dict[str, Any]], names: dict[str, str]) -> list[list[str]]:
    rows = []
    for source, title in names.items():
        for attack, label in ROWS.items():
            if (summary := found.get(attack, {}).get(source)) is None:
                continue
            paper = PAPER[title].get(attack, (None,) * 4)
            cells = tables.judged(summary, names, paper[:3])
            last = (tables.quality(summary, paper[3]), str(summary["images"]))
            rows.append([title, label, *cells, *last])
    for judge, summary in found.get("ensemble", {}).items():
        title = " + ".join(column for name, column in names.items() if name != judge)
        cells = ["-"] * 3
        cells[COLUMNS.index(names[judge])] = tables.cell(summary["targets"][judge])
        last = (tables.quality(summary), str(summary["images"]))
        rows.append([title, ROWS["low-degree"], *cells, *last])
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config))
