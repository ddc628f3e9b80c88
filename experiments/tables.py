"""What the tables share: the paper's figures beside ours, in Markdown and in LaTeX."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bfjax import models, storage
from bfjax.attacks import PAPER, bias_field
from bfjax.evaluation import EvaluateConfig, evaluate_models
from bfjax.metrics import wilson_interval
from bfjax.storage import home
from experiments import recorded

COLUMNS = ("ResNet50", "DenseNet121", "MobileNet")
# of `quality`, for the titles of tables
QUALITY = "BRISQUE (OpenCV's LIVE model): mean clean → attacked, paired change (95 %)"
_ARCHITECTURES = {
    "resnet50": "ResNet50",
    "densenet121": "DenseNet121",
    "mobilenet_v1": "MobileNet",
    "mobilenet_v2": "MobileNet",
}


_LARGE = {"resnet50", "densenet121"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The options of both tables."""

    models: tuple[Path, ...]
    """Folders of the checkpoints: of ResNet50, DenseNet121 and a MobileNet, or some of them. More
    may join later: what is there is judged by them, not attacked again."""
    attacked: tuple[str, ...] = ()
    """Names of those of --models that are attacked now; all judge, and what is there of the others
    is shown too. None: all."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    batch_size: int = 16
    """Images attacked at once."""
    num_images: int | None = None
    """Only so many test images, drawn by --seed; none: all."""
    large_images: int | None = None
    """The same where ResNet50 or DenseNet121 is attacked, whose gradients take four times as long
    as MobileNet V1's; none: as many."""
    seed: int = 0
    """Seed of that drawing, and of random attacks."""


def names(folders: Sequence[Path]) -> dict[str, str]:
    """How the paper calls each checkpoint.

    Args:
      folders: of the checkpoints.

    Returns:
      Name of the folder to name in the paper, in the paper's order.

    Raises:
      ValueError: two are of one architecture, or one is of none of the paper's.
    """
    found = {}
    for folder in folders:
        architecture = models.load_config(folder).architecture
        if architecture not in _ARCHITECTURES:
            raise ValueError(f"{folder} is a {architecture}, none of the paper's classifiers")
        found[folder.resolve().name] = _ARCHITECTURES[architecture]
    if len(set(found.values())) < len(found):
        raise ValueError(f"two checkpoints stand for the same classifier: {found}")
    return dict(sorted(found.items(), key=lambda item: COLUMNS.index(item[1])))


def attack(**options: Any) -> tuple[str, str]:
    """The paper's attack with other options, called by those.

    Args:
      **options: of `bfjax.attacks.bias_field`.

    Returns:
      Name and text; ours by default has the name that all experiments give it.

    Example:
      >>> attack(degree=10, min_degree=1), attack(degree=10, min_degree=2)
      (('ours', 'paper'), ('min_degree=2', 'paper(min_degree=2)'))
    """
    usual = {n: p.default for n, p in inspect.signature(bias_field).parameters.items()} | PAPER
    changed = [f"{key}={value!r}" for key, value in options.items() if usual[key] != value]
    if not changed:
        return "ours", "paper"
    return "-".join(changed), f"paper({', '.join(changed)})"


def run(
    config: Inputs,
    attacks: Mapping[str, str],
    *,
    sources: Sequence[str] | None = None,
    num_images: int | None = None,
    split: str = "test",
    measure: bool = True,
    images: bool = False,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs what is not recorded of an evaluation; every model judges, also what is there already.

    Args:
      config: the options.
      attacks: name to text, as `bfjax evaluate` takes them; one name stands for one attack in all
        experiments, which share what was run.
      sources: the models that are attacked, or several as one, `"A+B"`; by default each. Of those
        that `config.attacked` does not name, what is there is read.
      num_images: in place of those of the config.
      split: whose images are attacked.
      measure: also what is not the success.
      images: the attacked images are wanted too, which are not recorded.

    Returns:
      Name of the attack to name of the source to the cell's summary.
    """
    judges = {path.resolve().name: models.load_config(path).sha256 for path in config.models}
    if unknown := sorted(set(config.attacked) - judges.keys()):
        raise ValueError(f"--attacked {unknown[0]} is none of --models, {sorted(judges)}")
    found: dict[str, dict[str, dict[str, Any]]] = {attack: {} for attack in attacks}
    for source in map(str, config.models) if sources is None else sources:
        out = folder(config, source, num_images=num_images, split=split, measure=measure)
        name = "+".join(Path(part).resolve().name for part in source.split("+"))
        left = {
            attack: text
            for attack, text in attacks.items()
            if not recorded.is_complete(
                recorded.summary(out, attack), text, judges, measure=measure
            )
            or (images and not (out / attack / name / "summary.json").exists())
        }
        if left and judges.keys() & (config.attacked or judges) >= set(name.split("+")):
            whole = EvaluateConfig(
                sources=(source,),
                targets=tuple(str(model) for model in config.models if str(model) != source),
                attacks=left,
                data=config.data,
                split=split,
                batch_size=config.batch_size,
                num_images=_count(config, source, num_images),
                seed=config.seed,
                measure=measure,
                store_all=True,
                out=out,
            )
            try:
                evaluate_models(whole)
            finally:  # interrupted, those that are finished
                for attack in left:
                    if (out / attack / name / "summary.json").exists():
                        recorded.keep(out, attack, name)
        for attack, cells in found.items():
            summary = recorded.summary(out, attack)
            if recorded.is_complete(summary, attacks[attack], {}, measure=measure):
                assert summary is not None
                cells[name] = summary | {"targets": recorded.judged_by(summary, judges)}
    return found


def folder(
    config: Inputs,
    source: str | Path,
    *,
    num_images: int | None = None,
    split: str = "test",
    measure: bool = True,
) -> Path:
    """Where attacks of a model on these images lie, in `BFJAX_HOME`/runs, and are resumed.

    Args:
      config: the options.
      source: the checkpoint that is attacked, or several as one, `"A+B"`.
      num_images: in place of those of the config.
      split: whose images are attacked.
      measure: whether what is not the success is measured; a cell cannot be measured later.

    Returns:
      A folder whose name tells apart all that its cells have in common; a cell lies in
      ATTACK/SOURCE. Who judges is not part of it.
    """
    common = {
        "attacked": [models.load_config(Path(part)).sha256 for part in str(source).split("+")],
        "images": [Path(config.data).name, split, _count(config, source, num_images), config.seed],
        "batch_size": config.batch_size,
    } | ({} if measure else {"measure": False})
    digest = hashlib.sha256(json.dumps(common).encode()).hexdigest()
    return home() / "runs" / f"experiments-{digest[:12]}"


def _count(config: Inputs, source: str | Path, num_images: int | None) -> int | None:
    """How many images are attacked of a model, or of several as one."""
    parts = [models.load_config(Path(part)).architecture for part in str(source).split("+")]
    if num_images is None and _LARGE.intersection(parts):
        num_images = config.large_images
    return num_images or config.num_images


def share(count: int, of: int) -> str:
    """A share of images in %, with its 95 % interval, for a column that is headed so.

    Args:
      count: how many.
      of: how many there are.

    Returns:
      The text.

    Example:
      >>> share(1, 4)
      '25 (5 to 70)'
    """
    low, high = wilson_interval(count, of)
    return f"{100 * count / max(of, 1):.0f} ({100 * low:.0f} to {100 * high:.0f})"


def outcomes(
    first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]], *, prefix: str = ""
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether a model errs on the images that two cells share, as `mcnemar` takes it.

    Args:
      first: rows of one attack.
      second: of the other, perhaps of fewer images.
      prefix: of the model's columns.

    Returns:
      Labels (all 0), and 1 where the model is wrong: clean, under the first, under the second.
    """
    known = {row["file"]: row for row in second}

    def wrong(row: Mapping[str, str], kind: str) -> bool:
        return row[f"{prefix}{kind}_prediction"] != row["label"]

    errs = [
        (0, wrong(row, "clean"), wrong(row, "adversarial"), wrong(other, "adversarial"))
        for row in first
        if (other := known.get(row["file"])) is not None
    ]
    labels, clean, one, two = np.array(errs, int).reshape(-1, 4).T
    return labels, clean, one, two


def judged(
    summary: Mapping[str, Any], names: Mapping[str, str], paper: Sequence[float | None]
) -> list[str]:
    """The success rates of a cell, one for each of the paper's classifiers.

    Args:
      summary: of the cell.
      names: of the models, and how the paper calls them.
      paper: the paper's figures, in its order.

    Returns:
      Text for the columns; a dash where the model has not judged.
    """
    by_column = {names[name]: rate for name, rate in summary["targets"].items()}
    return [
        cell(by_column[column], figure) if column in by_column else "-"
        for column, figure in zip(COLUMNS, paper, strict=True)
    ]


def cell(rate: Mapping[str, Any], paper: float | None = None) -> str:
    """A success rate in %, its 95 % interval, k/N, by direction, and the paper's in brackets.

    Args:
      rate: `fooled`, `correct`, `rate` and, where they are known, `directions`.
      paper: the paper's, in %.

    Returns:
      Text for a cell.

    Example:
      >>> cell({"fooled": 214, "correct": 553, "rate": 214 / 553}, 38.69)
      '38.70 (34.7 to 42.8), 214/553 [38.69]'
      >>> ways = {"NORMAL→PNEUMONIA": {"rate": 0.83}, "PNEUMONIA→NORMAL": {"rate": None}}
      >>> cell({"fooled": 1, "correct": 2, "rate": 0.5, "directions": ways})
      '50.00 (9.5 to 90.5), 1/2, N→P 83, P→N -'
    """
    beside = "" if paper is None else f" [{paper:g}]"
    if not rate["correct"]:
        return f"-{beside}"
    low, high = (100 * end for end in wilson_interval(rate["fooled"], rate["correct"]))
    counts = f"{rate['fooled']}/{rate['correct']}"
    ways = "".join(
        f", {'→'.join(end[0] for end in way.split('→'))} {whole(one['rate'])}"
        for way, one in rate.get("directions", {}).items()
    )
    return f"{100 * rate['rate']:.2f} ({low:.1f} to {high:.1f}), {counts}{ways}{beside}"


def whole(rate: float | None) -> str:
    """A rate in whole per cent, or a dash where nothing is measured.

    Example:
      >>> whole(0.384), whole(None)
      ('38', '-')
    """
    return "-" if rate is None else f"{100 * rate:.0f}"


def quality(found: Mapping[str, Any], paper: float | None = None) -> str:
    """Mean BRISQUE of the clean and the attacked images, the paired change, the paper's figure.

    Args:
      found: a cell's summary.
      paper: the paper's.

    Returns:
      Text for a cell.
    """
    beside = "" if paper is None else f" [{paper:g}]"
    change = found["brisque_change"]
    around = "" if change["low"] is None else f" ({change['low']:+.2f} to {change['high']:+.2f})"
    means = f"{found['mean_brisque_clean']:.2f} → {found['mean_brisque']:.2f}"
    return f"{means}, {change['mean']:+.2f}{around}{beside}"


def write(
    stem: Path, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], results: Any
) -> None:
    """Writes a table as Markdown, as LaTeX, and everything it was made from as JSON.

    Args:
      stem: the path without its suffix.
      title: what it shows, above it.
      head: names of the columns.
      rows: of text.
      results: what JSON holds.
    """
    lines = [title, "", _markdown(head), "|---" * len(head) + "|", *map(_markdown, rows)]
    latex = [f"% {title}", f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule"]
    latex += [" & ".join(map(_latex, row)) + r" \\" for row in (head, *rows)]
    latex.insert(4, "\\midrule")
    latex += ["\\bottomrule", "\\end{tabular}"]
    for suffix, text in ((".md", lines), (".tex", latex)):
        with storage.replacing(stem.with_name(stem.name + suffix)) as temporary:
            temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    storage.write_json(stem.with_name(f"{stem.name}.json"), results)


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex(text: str) -> str:
    for plain, command in _LATEX.items():
        text = text.replace(plain, command)
    return text


# in this order
_LATEX = {
    "%": r"\%",
    "_": r"\_",
    r"|X\_a - X|": r"$|X_a - X|$",
    "|B̂|": r"$|\hat{B}|$",
    "B̂": r"$\hat{B}$",
    "→": r"$\to$",
    "ε": r"$\varepsilon$",
}
