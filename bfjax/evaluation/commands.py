"""`bfjax attack` and `bfjax evaluate`: options become cells here, and only here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from bfjax import attacks, data, estimate, progress, storage
from bfjax.evaluation import identity, native, rebuilding, runner, summary
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.config import AttackConfig, BiasFieldConfig, EvaluateConfig
from bfjax.evaluation.estimate import of_cell
from bfjax.evaluation.specification import bias_field_at, parse_attack
from bfjax.evaluation.targets import Target, check_together, class_names, load_target


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
    with progress.bar() as bar:
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
                found.setdefault(name, {})[source] = runner.complete(
                    cell, bar, f"{name} on {source}"
                )
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
    targets = [
        load_target(t, image_size=config.image_size) for t in (config.model, *config.targets)
    ]
    source = _load_source(config, targets)
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(BiasFieldConfig)}
    shape = source[0]["image"].shape
    made = attacks.bias_field(shape, **options)
    settings = dataclasses.asdict(config) | {"extent": list(config.extent)}
    for presentational in ("gallery", "native", "model", "dry_run"):
        del settings[presentational]
    about = {target.name: identity.of_target(target, shape) for target in targets}
    whole = _fingerprint(source), about
    cell = _cell(config, made, targets, source, config.out, settings, *whole, store_all=True)
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
    sources = [load_target(text, image_size=config.image_size) for text in config.sources]
    judging = [s for s in sources if "+" not in s.name] + [
        load_target(text) for text in config.targets
    ]
    source = _load_source(config, sources)
    shape = source[0]["image"].shape
    about = {target.name: identity.of_target(target, shape) for target in [*sources, *judging]}
    fingerprint = _fingerprint(source)
    found: dict[str, dict[str, Cell]] = {}
    said: dict[Any, dict[str, Any]] = {}
    for name, text in config.attacks.items():
        made = parse_attack(text, shape)
        for attacked in sources:
            targets = [attacked, *(j for j in judging if j.name != attacked.name)]
            settings = dataclasses.asdict(config) | {"attack": text}
            for other in ("attacks", "sources", "dry_run"):
                del settings[other]
            out = config.out / name / attacked.name
            whole = fingerprint, about
            cell = _cell(
                config, made, targets, source, out, settings, *whole, store_all=config.store_all
            )
            found.setdefault(name, {})[attacked.name] = dataclasses.replace(cell, said=said)
    return found


def _cell(
    config: AttackConfig | EvaluateConfig,
    made: Any,
    targets: Sequence[Target],
    source: data.Source,
    out: Path,
    settings: dict[str, Any],
    fingerprint: data.Fingerprint,
    about: dict[str, dict[str, Any]],
    *,
    store_all: bool,
) -> Cell:
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {config.batch_size}")
    check_together(targets)
    for presentational in ("out", "targets", "num_images"):
        del settings[presentational]
    settings |= {
        "label": (source.label or "predicted") if isinstance(source, data.Labelled) else None,
        "num_images": len(source),
        "class_names": list(source.class_names),
        "image_size": targets[0].config.image_size,
        "resize": targets[0].config.resize,
        "models": {t.name: about[t.name] for t in targets},
        "images": fingerprint.sha256,
    }
    return Cell(
        attack=made,
        targets=targets,
        source=source,
        out=out,
        settings=settings,
        batch_size=config.batch_size,
        fingerprint=fingerprint,
        seed=config.seed,
        measure=config.measure,
        store_all=store_all,
    )


def _fingerprint(source: data.Source) -> data.Fingerprint:
    with progress.bar() as bar:
        task = bar.add_task("looking through the images", total=len(source))
        return data.fingerprint(source, lambda: bar.advance(task))


def _load_source(config: AttackConfig | EvaluateConfig, targets: Sequence[Target]) -> data.Source:
    trained = targets[0].config
    source = data.load(
        config.data,
        config.split,
        image_size=trained.image_size,
        resize=trained.resize,
        num_examples=config.num_images,
        seed=config.seed,
        unlabelled=True,
    )
    if len(source.class_names) < 2:
        return _labelled(config, source, targets[0])
    if config.label is not None:
        raise ValueError(
            f"--label {config.label}: it is for images in no class folders, and {config.data} has "
            f"the classes {', '.join(source.class_names)}"
        )
    if trained.class_names and tuple(source.class_names) != tuple(trained.class_names):
        raise ValueError(
            f"{config.data} has the classes {', '.join(source.class_names)}, "
            f"{targets[0].name} was trained on {', '.join(trained.class_names)}"
        )
    return source


def _labelled(
    config: AttackConfig | EvaluateConfig, source: data.Source, target: Target
) -> data.Source:
    """Images in no class folders, or in one alone, among the classes of the attacked model."""
    names = class_names(target, source[0]["image"].shape)
    label = config.label
    if label is None:  # the folder's name may be a class, or mean nothing
        label = next(iter(set(source.class_names) & set(names)), "predicted")
    if label in names:
        return data.Labelled(source, names, label)
    if label == "predicted":
        return data.Labelled(source, names)
    if label.isdecimal() and int(label) < len(names):
        return data.Labelled(source, names, names[int(label)])
    raise ValueError(
        f"--label {label} is no class of {target.name}, which tells apart {', '.join(names)}"
    )
