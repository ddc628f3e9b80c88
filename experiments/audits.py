"""How much uneven light do the classifiers take?

    python -m experiments.audits --whole MOBILENET --few RESNET50 DENSENET121 --corrected MOBILENET

The standard test of `bfjax audit`: --whole on all test images, --few on --few-images of them, which
--seed draws, without one light for all. --corrected are audited on as few behind each correction of
the light too; --pytorch, which need torch, on --pytorch-images. 450 gradients an image, each of
which takes 0.05 s of a core with MobileNet V1, and 0.2 with the larger ones: two hours of two cores
for each of these. The audits lie in `BFJAX_HOME`/runs/audits, and go on there where they were
interrupted. Table, figure and each `audit.json` go to `experiments/results/audits`; what lies there
already, of the same weights, images and settings, is not made again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from bfjax import storage
from bfjax.evaluation import standard
from bfjax.evaluation.standard import AuditConfig
from bfjax.robustness import ATTACKERS
from experiments import tables
from experiments.cases import CITATION
from experiments.inputs import names_differ

RESULTS = Path(__file__).parent / "results" / "audits"
CORRECTIONS = ("polynomial", "homomorphic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Classifiers under uneven light."""

    whole: tuple[str, ...] = ()
    """Models, as `bfjax audit` takes them, that are audited on all test images."""
    few: tuple[str, ...] = ()
    """Models that are audited on --few-images of them."""
    corrected: tuple[str, ...] = ()
    """Models that are audited on --few-images under uneven light, behind each correction too."""
    few_images: int = 128
    """Test images, drawn by --seed."""
    pytorch: tuple[str, ...] = ()
    """Files of `torch.export.save`, audited on --pytorch-images under uneven light."""
    pytorch_images: int = 32
    """Test images, drawn by --seed."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    image_size: int | None = None
    """Side of the images; none: as the models say."""
    batch_size: int = 16
    """Images at once."""
    seed: int = 0
    """Of all that is random."""


def main(config: Config) -> None:
    """Audits what is left, and writes table and figure after each model."""
    for models in (config.whole, config.few, config.corrected, config.pytorch):
        names_differ(models)
    found: dict[str, dict[str, Any]] = {}
    for kind, model, options in _asked(config):
        asked = AuditConfig(
            model=(model,),
            data=config.data,
            image_size=config.image_size,
            batch_size=config.batch_size,
            seed=config.seed,
            out=storage.home() / "runs" / "audits" / kind,
            **options,
        )
        (run,) = standard.audit_runs(asked)
        name = run.target.name
        make = functools.partial(standard.audit_models, asked)
        found[f"{name}, {kind}"] = once(RESULTS / f"{name}-{kind}.json", run, make)
        write(found)


def once(path: Path, run: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a test of a model found, made only where it does not lie there.

    Args:
      path: of what is committed, without the paths of this machine.
      run: the test.
      make: makes it, and gives it by the model's name.

    Returns:
      What the file holds.
    """
    settings = run.settings | {"data": CITATION}
    before = storage.read_json(path)
    if before.get("settings") != settings:
        storage.write_json(path, make()[run.target.name] | {"settings": settings})
    return storage.read_json(path)


def _asked(config: Config) -> list[tuple[str, str, dict[str, Any]]]:
    few = {"num_images": config.few_images, "universal_steps": 0}
    uneven = {"exposures": ("fixed",)}
    kinds = (
        ("whole", config.whole, {}),
        ("few", config.few, few),
        ("corrected", config.corrected, few | uneven | {"corrections": CORRECTIONS}),
        ("pytorch", config.pytorch, few | uneven | {"num_images": config.pytorch_images}),
    )
    return [(kind, model, options) for kind, models, options in kinds for model in models]


def write(found: dict[str, dict[str, Any]]) -> None:
    """Writes what is known so far.

    Args:
      found: name and kind to what `audit.json` holds.
    """
    head = (
        "model",
        "light",
        "clean",
        *(f"{rho:g}" for rho in _ranges(found)),
        "takes",
        "gradients",
    )
    rows = []
    for name, audit in found.items():
        clean, first = f"{100 * audit['clean']['accuracy']:.1f}", len(rows)
        for kind, row in audit["rows"].items():
            takes = "more" if row["takes"] is None else f"{row['takes']:.2f}"
            worst = [with_interval(tier) for tier in row["tiers"]]
            spent = f"{row['gradients']['mean']:.0f}"
            rows.append([name, f"worst, exposure {kind}", clean, *worst, takes, spent])
            if "universal_accuracy" in row["tiers"][0]:
                one = [f"{100 * tier['universal_accuracy']:.1f}" for tier in row["tiers"]]
                rows.append([name, "one for all images", clean, *one, "", ""])
            random = [f"{100 * tier['random_accuracy']:.1f}" for tier in row["tiers"]]
            rows.append([name, f"random, exposure {kind}", clean, *random, "", ""])
        machine = ["" for _ in _ranges(found)]
        uneven = audit["machine"]["lights"]["log_range"]
        set_up = (
            f"a machine's worst set-up: {with_interval(audit['machine'])}, log-range {uneven:.2f}"
        )
        rows.append([name, set_up, clean, *machine, "", ""])
        rows += _corrected(name, audit)
        rows[first][2] = with_interval(audit["clean"])
    title = (
        "Accuracy in % (95 % interval), that of NORMAL and of PNEUMONIA, on chest X-rays without "
        "light and within each log-range, up to which log-range nine in ten right answers stay "
        "right, and gradients for an image."
    )
    tables.write(RESULTS / "audits", title, head, rows, found)
    audits = [audit for name, audit in found.items() if name.endswith((", whole", ", few"))]
    if audits:
        path = RESULTS / "audits.png"
        with storage.replacing(path) as temporary:
            standard.panels(audits).savefig(temporary, format="png", dpi=130)


def _ranges(found: dict[str, dict[str, Any]]) -> list[float]:
    return next(iter(found.values()))["settings"]["ranges"]


def with_interval(rates: dict[str, Any]) -> str:
    """An accuracy of an audit in %, with its interval and that of each of two classes.

    Args:
      rates: metrics of some images.

    Returns:
      The text.

    Example:
      >>> rates = {"accuracy": 0.75, "intervals": {"accuracy": [0.3, 0.95]}}
      >>> with_interval(rates | {"specificity": 0.5, "sensitivity": 1.0})
      '75.0 (30.0 to 95.0), 50 and 100'
    """
    low, high = rates["intervals"]["accuracy"]
    text = f"{100 * rates['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    classes = rates["specificity"], rates["sensitivity"]
    if None in classes:
        return text
    return f"{text}, {' and '.join(f'{100 * share:.0f}' for share in classes)}"


def _corrected(name: str, audit: dict[str, Any]) -> list[list[str]]:
    rows = []
    for correction, judged in audit.get("corrections", {}).items():
        clean = f"{100 * judged['clean']['accuracy']:.1f}"
        for attacker in (*ATTACKERS, "worst"):
            rates = [f"{100 * tier[attacker]:.1f}" for tier in judged["tiers"]]
            spent = f"{judged['gradients']:.0f}" if attacker == "worst" else ""
            told = f"{correction} correction, {attacker.replace('_', ' ')}"
            rows.append([name, told, clean, *rates, "", spent])
        gains = [standard.gain_in_points(tier["gain"]) for tier in judged["tiers"]]
        told = f"{correction} correction, points gained (95 % interval)"
        rows.append([name, told, "", *gains, "", ""])
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config))
