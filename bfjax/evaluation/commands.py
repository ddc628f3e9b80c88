"""`bfjax attack` and `bfjax evaluate`: options become cells here, and only here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from bfjax import attacks, estimate, progress, storage
from bfjax.attack import is_targeted
from bfjax.evaluation import meaning, native, rebuilding, runner, skipping, summary
from bfjax.evaluation.asking import Asked, ask, without_class
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.classes import ANY
from bfjax.evaluation.config import (
    AttackConfig,
    BiasFieldConfig,
    EvaluateConfig,
    ImagesConfig,
    RunConfig,
)
from bfjax.evaluation.estimate import of_cell
from bfjax.evaluation.specification import bias_field_at, of_findings, parse_attack
from bfjax.evaluation.targets import NORMALIZATION, Target, check_together, load_target
from bfjax.types import Attack, Search


def attack(config: AttackConfig) -> None:
    """The command `bfjax attack`: runs, then prints the success rates as a table."""
    if config.dry_run:
        cell = attack_cell(config)
        natives = [native.of_native(cell)] if config.native else []
        estimate.show([of_cell(cell), *natives])
        return
    found, ran = _attack(config)
    if jax.process_index() == 0:
        if not ran:
            print(f"{config.out}: finished before, nothing was run")
        summary.show(found, config.out)


def evaluate(config: EvaluateConfig) -> None:
    """The command `bfjax evaluate`: runs, then prints the transfer matrices."""
    if config.dry_run:
        rows = evaluation_cells(config).values()
        estimate.show([of_cell(cell) for row in rows for cell in row.values()])
        return
    found, ran = _evaluate(config)
    if jax.process_index() == 0:
        if not ran:
            print(f"{config.out}: finished before, nothing was run")
        summary.show_transfer(found, config.out)


def attack_dataset(config: AttackConfig) -> dict[str, Any]:
    """Runs `config`, or what is left of it.

    Args:
      config: what to attack, with what, and where the results go.

    Returns:
      What `summary.json` holds, and under "native", where asked for, what `native.json` holds.

    Raises:
      ValueError: for options, images or checkpoints that do not fit, naming the culprit.
      FileNotFoundError: for missing data or checkpoints.
    """
    return _attack(config)[0]


def _attack(config: AttackConfig) -> tuple[dict[str, Any], bool]:
    """What `attack_dataset` returns, and whether there was anything left to do."""
    cell = attack_cell(config)
    ran, first = not cell.finished, jax.process_index() == 0
    with skipping.all_bad_files(cell.source), progress.bar() as bar:
        found = runner.complete(cell, bar, "attacking")
    if first and config.gallery:
        ran |= rebuilding.draw_cases(cell, config.gallery)
    if first and config.native:
        ran |= not native.is_written(cell)
        found["native"] = native.write(cell)
    return found, ran


def evaluate_models(config: EvaluateConfig) -> dict[str, Any]:
    """Runs `config`, or what is left of it: every attack on every source, judged by all models.

    Args:
      config: what to run, and where the results go.

    Returns:
      What `summary.json` holds.

    Raises:
      ValueError: for options, images or checkpoints that do not fit, naming the culprit.
      FileNotFoundError: for missing data or checkpoints.
    """
    return _evaluate(config)[0]


def _evaluate(config: EvaluateConfig) -> tuple[dict[str, Any], bool]:
    """What `evaluate_models` returns, and whether there was anything left to do."""
    found: dict[str, dict[str, Any]] = {}
    ran = False
    with progress.bar() as bar:
        for name, row in evaluation_cells(config).items():
            for source, cell in row.items():
                ran |= not cell.finished
                with skipping.all_bad_files(cell.source):
                    done = runner.complete(cell, bar, f"{name} on {source}")
                found.setdefault(name, {})[source] = done
    whole = summary.transfer(found)
    before = storage.read_json(config.out / "summary.json")
    same = not ran and before.get("attacks") == whole["attacks"]
    whole["run"] = before["run"] if same else storage.environment()
    if jax.process_index() == 0:
        storage.write_json(config.out / "summary.json", whole)
    return whole, ran


def attack_cell(config: AttackConfig) -> Cell:
    """What `bfjax attack` runs.

    Args:
      config: its options.

    Returns:
      The one cell.

    Raises:
      ValueError: for options or checkpoints that do not fit, naming the culprit.
      FileNotFoundError: for missing data or checkpoints.
    """
    asked = _asked(config, [load_model(config, text) for text in (config.model, *config.targets)])
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(BiasFieldConfig)}
    made = attacks.bias_field(asked.image_shape, **options)
    settings = _own(config, "gallery", "native", "model") | {"extent": list(config.extent)}
    cell = _cell(config, made, asked, asked.targets, config.out, settings, store_all=True)
    at = functools.partial(bias_field_at, options)
    return dataclasses.replace(cell, perturbation_at=at)


def evaluation_cells(config: EvaluateConfig) -> dict[str, dict[str, Cell]]:
    """What `bfjax evaluate` runs.

    Args:
      config: its options.

    Returns:
      Name of the attack to name of the source to cell.

    Raises:
      ValueError: for options or checkpoints that do not fit, naming the culprit.
      FileNotFoundError: for missing data or checkpoints.
    """
    if not config.sources or not config.attacks:
        raise ValueError("an evaluation has at least one of --sources and one of --attacks")
    for name in config.attacks:
        if not name or set(name) & set("/\\:\0") or name.startswith("."):
            raise ValueError(f"the attack's name {name!r} is no name for a folder")
    sources = [load_model(config, text) for text in config.sources]
    judges = [load_model(config, text) for text in config.targets]
    asked = _asked(config, [*sources, *judges])
    sources, judges = asked.targets[: len(sources)], asked.targets[len(sources) :]
    judging = [s for s in sources if "+" not in s.name] + judges
    made = {name: parse_attack(text, asked.image_shape) for name, text in config.attacks.items()}
    asked, aim = _aimed(config, asked, list(made.values()))
    found: dict[str, dict[str, Cell]] = {}
    said: dict[Any, dict[str, Any]] = {}
    for name, attack in made.items():
        for attacked in sources:
            targets = [attacked, *(j for j in judging if j.name != attacked.name)]
            text = config.attacks[name]
            settings = _own(config, "attacks", "sources") | {"attack": text}
            settings |= meaning.noted_today(text)
            out = config.out / name / attacked.name
            cell = _cell(config, attack, asked, targets, out, settings, store_all=config.store_all)
            found.setdefault(name, {})[attacked.name] = dataclasses.replace(
                cell, said=said, aim=aim
            )
    return found


def load_model(config: ImagesConfig, text: str) -> Target:
    """`load_target` of a text, as the options say that the model is asked."""
    return load_target(
        text,
        image_size=config.image_size,
        outputs=config.outputs,
        multi_label=config.finding is not None,
        normalization=normalization(config),
    )


def normalization(config: ImagesConfig) -> dict[str, Any]:
    """The options of `bfjax.models.normalized` that were given."""
    usual = ImagesConfig()
    asked = {name: getattr(config, name) for name in NORMALIZATION}
    given = {k: v for k, v in asked.items() if v != getattr(usual, k)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


def ask_about(
    config: ImagesConfig, targets: Sequence[Target], *, out: Path, dry_run: bool
) -> Asked:
    """`ask` with the options."""
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {config.batch_size}")
    return ask(
        targets,
        data_set=config.data,
        split=config.split,
        num_images=config.num_images,
        seed=config.seed,
        label=config.label,
        labels=config.labels,
        given=config.class_names,
        finding=config.finding,
        skipped_in=out / skipping.LIST if config.skip_bad else None,
        write=jax.process_index() == 0 and not dry_run,
    )


def _asked(config: AttackConfig | EvaluateConfig, targets: Sequence[Target]) -> Asked:
    return ask_about(config, targets, out=config.out, dry_run=config.dry_run)


def _aimed(
    config: EvaluateConfig, asked: Asked, made: Sequence[Attack | Search]
) -> tuple[Asked, int | None]:
    """The images, and the class that targeted attacks aim at; `None` where it is drawn for each."""
    targeted = [attack for attack in made if is_targeted(attack)]
    if targeted and config.finding == ANY:
        raise ValueError(f"a targeted attack aims at one class: --finding {ANY} does not say which")
    name, names = config.target_class, asked.source.class_names
    if name is None:
        return asked, None
    if len(targeted) < len(made):
        raise ValueError(
            f"--target-class {name}: not all attacks are targeted; evaluate the others without it"
        )
    if name not in names:
        raise ValueError(f"--target-class {name} is none of the classes {', '.join(names)}")
    return without_class(asked, names.index(name)), names.index(name)


def _own(config: AttackConfig | EvaluateConfig, *derived: str) -> dict[str, Any]:
    """The options on which results depend and that `Asked.settings` does not tell."""
    options = dataclasses.asdict(config)
    left_out = {*derived, *_OF_RUNS, "out", "targets", "target_class"} - {*_KEPT}
    # absent where not asked for, as in results of before there were these options
    named = {k: options.get(k) for k in ("outputs", "target_class")}
    given = {k: v for k, v in named.items() if v not in (None, "logits")}
    kept = {k: v for k, v in options.items() if k not in left_out}
    return kept | given | normalization(config)


_OF_RUNS = [field.name for field in dataclasses.fields(RunConfig)]
_KEPT = ("data", "split", "batch_size", "seed", "measure")


def _cell(
    config: AttackConfig | EvaluateConfig,
    made: Attack | Search,
    asked: Asked,
    targets: Sequence[Target],
    out: Path,
    settings: dict[str, Any],
    *,
    store_all: bool,
) -> Cell:
    check_together(targets)
    settings |= asked.settings | {
        "models": {target.name: asked.models[target.name] for target in targets},
        "images": asked.fingerprint.sha256,
        "data": asked.source.public(config.data),
    }
    return Cell(
        attack=of_findings(made) if config.finding == ANY else made,
        targets=targets,
        source=asked.source,
        out=out,
        settings=settings,
        batch_size=config.batch_size,
        fingerprint=asked.fingerprint,
        seed=config.seed,
        measure=config.measure,
        store_all=store_all,
    )
