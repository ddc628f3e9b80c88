"""What does training under uneven light give, and what does it cost?

    python -m experiments.hardened --models STANDARD RANDOM HARDENED --few RESNET50 ITS_HARDENED

Each model's audit, and its accuracy under three attacks: the paper's, the field made to transfer
and BIM with ε = 2/255, which is no light. --models on all test images, --few on --few-images of
them, which --seed draws. An hour of two cores for MobileNet V1. Minutes are those of the
checkpoint's own training, without what it started from.

    python -m experiments.hardened --held-out --models A B C

compares ways to train without a look at the test images: by audits of --few-images of the patients
that `bfjax train` held out, without the attacks. They must be the same ones for all models. Ten
minutes for MobileNet V1.

Audits and attacks lie in `BFJAX_HOME/runs`, and go on there where they were interrupted; what lies
in `experiments/results/hardened` is not made again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bfjax import data, models, storage
from bfjax.evaluation import standard
from bfjax.evaluation.standard import AuditConfig
from bfjax.training import split_source
from experiments import tables, transfer
from experiments.audits import once, with_interval
from experiments.inputs import names_differ
from experiments.training import minutes

RESULTS = Path(__file__).parent / "results" / "hardened"
ATTACKS = {
    **dict([tables.attack()]),
    "low-degree": transfer.VARIANTS[transfer.BEST],
    "bim-2": f"bim(epsilon={2 / 255:.6f}, step_size={0.5 / 255:.6f})",
}
_ONE_LIGHT = 0.4  # the log-range at which one light for all is shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Classifiers that were trained under light, beside those that were not."""

    models: tuple[Path, ...] = ()
    """Checkpoints that are tested on all test images."""
    few: tuple[Path, ...] = ()
    """Checkpoints that are tested on --few-images of them."""
    few_images: int = 128
    """Images, drawn by --seed."""
    held_out: bool = False
    """Audits of held-out patients of the training split, of --few-images images."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    batch_size: int = 16
    """Images at once."""
    seed: int = 0
    """Of all that is random."""


def main(config: Config) -> None:
    """Tests what is left, and writes the table after each model."""
    if config.held_out:
        _check_held_out(config.models + config.few)
    for folders in (config.models, config.few):
        names_differ(folders)
    rows, found = [], {}
    kinds = (("whole", config.models, None), ("few", config.few, config.few_images))
    for kind, folders, count in kinds:
        for folder in folders:
            kind = "held-out" if config.held_out else kind
            audit = _audit(config, folder, kind, config.few_images if config.held_out else count)
            attacks = {} if config.held_out else _attacked(config, folder, count)
            key = f"{folder.resolve().name}, {kind}"
            found[key] = {
                "audit": audit,
                "attacks": attacks,
                "minutes": minutes(folder / "log.csv"),
            }
            rows.append(_row(key, found[key]))
            _write(rows, found, held_out=config.held_out)


def _audit(config: Config, folder: Path, kind: str, count: int | None) -> dict[str, Any]:
    asked = AuditConfig(
        model=(str(folder),),
        data=config.data,
        num_images=count,
        exposures=("fixed",),
        batch_size=config.batch_size,
        seed=config.seed,
        out=storage.home() / "runs" / "hardened" / kind,
    )
    if config.held_out:
        images = str(held_out(config.data, folder))
        asked = dataclasses.replace(asked, data=images, split="all", universal_steps=0)
    (run,) = standard.audit_runs(asked)
    make = functools.partial(standard.audit_models, asked)
    return once(RESULTS / f"{run.target.name}-{kind}.json", run, make)


def held_out(where: str, model: Path) -> Path:
    """The images that a training held out, as a folder of class folders in `BFJAX_HOME`.

    Args:
      where: the data set, or the folder where it lies.
      model: a checkpoint that `bfjax train` wrote; it tells which images it saw, and their size.

    Returns:
      The folder, whose images have the size that the model takes.

    Raises:
      ValueError: it was trained with a list of labels or patients, whose contents are not known.
    """
    record = models.load_config(model)
    training = record.extra["training"]
    if lists := [name for name in ("labels", "groups", "class_names") if training.get(name)]:
        raise ValueError(
            f"{model} was trained with --{lists[0]}: its held-out images are not known"
        )
    seed, size = training["seed"], {"image_size": record.image_size, "resize": record.resize}
    source = data.load(where, "train", num_examples=training["num_examples"], seed=seed, **size)
    _, held = split_source(source, fraction=training["validation"], seed=seed)
    told = json.dumps([source.public(Path(where).name), size, list(held.names), "numbered"])
    digest = hashlib.sha256(told.encode()).hexdigest()
    folder = storage.home() / "runs" / "hardened" / f"images-{digest[:12]}"
    for i, (image, label) in enumerate(zip(held.names, held.labels, strict=True)):
        # by number: two files of one name may lie in different folders
        path = folder / source.class_names[label] / f"{i:05d}-{Path(image).stem}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with storage.replacing(path) as temporary:
                Image.fromarray(held[i]["image"][..., 0]).save(temporary, "PNG")
    return folder


def _check_held_out(folders: tuple[Path, ...]) -> None:
    """Makes sure that all models held out the same patients."""
    if not folders:
        raise ValueError("--held-out compares models: name some, --models")
    by = ("data", "num_examples", "validation", "seed")
    told = {}
    for folder in folders:
        training = models.load_config(folder).extra["training"]
        told[str(folder)] = {name: training.get(name) for name in by}
    first, *others = told.items()
    for folder, settings in others:
        if changed := [name for name in by if settings[name] != first[1][name]]:
            raise ValueError(f"{first[0]} and {folder} were trained with another {changed[0]}")


def _attacked(config: Config, folder: Path, count: int | None) -> dict[str, Any]:
    inputs = tables.Inputs(
        models=(folder,), data=config.data, batch_size=config.batch_size, num_images=count,
        seed=config.seed,
    )  # fmt: skip
    found, name = tables.run(inputs, ATTACKS, measure=False), folder.resolve().name
    left = {}
    for attack, cells in found.items():
        judged, images = cells[name]["targets"][name], cells[name]["images"]
        left[attack] = {
            "accuracy": (judged["correct"] - judged["fooled"]) / images,
            "success": judged["rate"],
            "directions": judged["directions"],
        }
    return left


def _row(name: str, one: dict[str, Any]) -> list[str]:
    audit = one["audit"]
    clean, tiers = audit["clean"], audit["rows"]["fixed"]["tiers"]
    told = audit.get("universal", {"tiers": []})["tiers"]
    lit = {tier["log_range"]: f"{100 * tier['accuracy']:.1f}" for tier in told}
    return [
        name,
        str(audit["images"]),
        with_interval(clean),
        f"{100 * clean['auc']:.1f}",
        *(with_interval(tier) for tier in tiers),
        lit.get(_ONE_LIGHT, ""),
        with_interval(audit["machine"]),
        *(_left(attack) for attack in one["attacks"].values()),
        f"{one['minutes']:.0f}",
    ]


def _left(attack: dict[str, Any]) -> str:
    """An accuracy under attack, and of what was right of each class how much is wrong by then."""
    lost = (f"{way['fooled']} of {way['correct']}" for way in attack["directions"].values())
    success = f"{100 * attack['success']:.1f}" if attack["success"] is not None else "none"
    return f"{100 * attack['accuracy']:.1f} (success {success}: {' and '.join(lost)})"


def _write(rows: list[list[str]], found: dict[str, Any], *, held_out: bool) -> None:
    ranges = next(iter(found.values()))["audit"]["settings"]["ranges"]
    attacks = () if held_out else ("the paper's", "made to transfer", "BIM, 2/255")
    head = ("model", "images", "clean", "AUC", *(f"{rho:g}" for rho in ranges),
            f"one light, {_ONE_LIGHT:g}", "a machine's", *attacks, "minutes")  # fmt: skip
    title = (
        f"Accuracy in % (95 % interval) on {'held-out patients' if held_out else 'test images'}, "
        "and of NORMAL and of PNEUMONIA, without light, under the worst light found within each "
        "log-range, under one light for all images (without an interval), under a machine's worst "
        "set-up, and under attacks (with the success, of all that is right without light and of "
        "each class); minutes of training."
    )
    stem = "held_out" if held_out else "hardened"
    tables.write(RESULTS / stem, title, head, rows, found)
    with storage.replacing(RESULTS / f"{stem}.png") as temporary:
        draw({name: one["audit"] for name, one in found.items()}).savefig(
            temporary, format="png", dpi=130
        )


def draw(audits: dict[str, Any]) -> Figure:
    """Accuracy under the worst light against its log-range, a line for each model.

    Args:
      audits: name to what `audit.json` holds.

    Returns:
      The figure.
    """
    figure = Figure(figsize=(5.8, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, audit in audits.items():
        end, curve = max(audit["settings"]["ranges"]), audit["rows"]["fixed"]["curve"]
        within = [k for k, place in enumerate(curve["log_range"]) if place <= end]
        places = [*(curve["log_range"][k] for k in within), end]
        heights = [100 * curve["accuracy"][k] for k in [*within, within[-1]]]
        axes.step(places, heights, where="post", label=name)
    axes.set(xlabel="log-range of the light", ylabel="accuracy under the worst light, %")
    axes.set(xlim=(0, None), ylim=(0, 101))
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config))
