"""`bfjax attack` and `bfjax evaluate`: options become cells here, and only here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from bfjax import attacks, data, estimate, progress, storage
from bfjax.evaluation import matching, native, rebuilding, runner, skipping, summary
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
    found = attack_dataset(config)
    if jax.process_index() == 0:
        summary.show(found, config.out)


def evaluate(config: EvaluateConfig) -> None:
    """The command `bfjax evaluate`: runs, then prints the transfer matrices."""
    if config.dry_run:
        rows = evaluation_cells(config).values()
        estimate.show([of_cell(cell) for row in rows for cell in row.values()])
        return
    found = evaluate_models(config)
    if jax.process_index() == 0:
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
    cell = attack_cell(config)
    finished = (config.out / "summary.json").exists()
    with skipping.all_bad_files(cell.source), progress.bar() as bar:
        found = runner.complete(cell, bar, "attacking")
    if config.gallery and not finished and jax.process_index() == 0:
        rebuilding.draw_cases(cell, config.gallery)
    if config.native and jax.process_index() == 0:
        found["native"] = native.write(cell)
    return found


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
    found: dict[str, dict[str, Any]] = {}
    with progress.bar() as bar:
        for name, row in evaluation_cells(config).items():
            for source, cell in row.items():
                with skipping.all_bad_files(cell.source):
                    done = runner.complete(cell, bar, f"{name} on {source}")
                found.setdefault(name, {})[source] = done
    whole = summary.transfer(found) | {"run": storage.environment()}
    if jax.process_index() == 0:
        storage.write_json(config.out / "summary.json", whole)
    return whole


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
    source, skipped = _load_source(config, targets)
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(BiasFieldConfig)}
    made = attacks.bias_field(source[0]["image"].shape, **options)
    settings = dataclasses.asdict(config) | {"extent": list(config.extent)}
    for presentational in ("gallery", "native", "model", "dry_run"):
        del settings[presentational]
    settings["skipped"] = skipped
    cell = _cell(config, made, targets, source, config.out, settings, store_all=True)
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
    source, skipped = _load_source(config, [*sources, *judging])
    shape = source[0]["image"].shape
    found: dict[str, dict[str, Cell]] = {}
    said: dict[Any, dict[str, Any]] = {}
    for name, text in config.attacks.items():
        made = parse_attack(text, shape)
        for attacked in sources:
            targets = [attacked, *(j for j in judging if j.name != attacked.name)]
            settings = dataclasses.asdict(config) | {"attack": text, "skipped": skipped}
            for other in ("attacks", "sources", "dry_run"):
                del settings[other]
            out = config.out / name / attacked.name
            cell = _cell(config, made, targets, source, out, settings, store_all=config.store_all)
            found.setdefault(name, {})[attacked.name] = dataclasses.replace(cell, said=said)
    return found


def _cell(
    config: AttackConfig | EvaluateConfig,
    made: Any,
    targets: Sequence[Target],
    source: data.Source,
    out: Path,
    settings: dict[str, Any],
    *,
    store_all: bool,
) -> Cell:
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {config.batch_size}")
    check_together(targets)
    for presentational in ("out", "targets", "num_images", "class_names"):
        del settings[presentational]
    # absent where not asked for: results written before there were these options have none
    given = {
        "labels": config.labels and str(config.labels),
        "classes": list(config.class_names),
        "skip_bad": config.skip_bad,
        "skipped": settings["skipped"],
    }
    for name, value in given.items():
        settings.pop(name, None)
        settings |= {name: value} if value else {}
    settings |= {
        "data": source.public(config.data),
        "label": (source.label or "predicted") if isinstance(source, data.Labelled) else None,
        "num_images": len(source) + len(given["skipped"]),
        "class_names": list(source.class_names),
        "image_size": targets[0].config.image_size,
        "resize": targets[0].config.resize,
        "models": {
            t.name: {"sha256": t.config.sha256, "architecture": t.config.architecture}
            for t in targets
        },
    }
    return Cell(
        attack=made,
        targets=targets,
        source=source,
        out=out,
        settings=settings,
        batch_size=config.batch_size,
        seed=config.seed,
        measure=config.measure,
        store_all=store_all,
    )


def _load_source(
    config: AttackConfig | EvaluateConfig, targets: Sequence[Target]
) -> tuple[data.Source, list[str]]:
    """The images among the classes of the models, and the names of those left out as bad."""
    trained, model = targets[0].config, targets[0].name
    names = matching.agreed_classes(trained.class_names, config.class_names, model=model)
    source = data.load(
        config.data,
        config.split,
        image_size=trained.image_size,
        resize=trained.resize,
        num_examples=config.num_images,
        seed=config.seed,
        unlabelled=True,
        labels=config.labels,
        class_names=config.class_names,
    )
    skipped: list[str] = []
    if config.skip_bad:
        writes = jax.process_index() == 0 and not config.dry_run
        source, skipped = skipping.without_bad_files(
            source, config.out / skipping.LIST, write=writes
        )
    with skipping.all_bad_files(source):
        shape = source[0]["image"].shape
    if len(source.class_names) < 2:
        source = _labelled(config, source, names or class_names(targets[0], shape), model)
    elif config.label is None:
        source = matching.among_classes(source, names, where=config.data, model=model)
    else:
        raise ValueError(
            f"--label {config.label}: it is for images in no class folders, and {config.data} has "
            f"the classes {', '.join(source.class_names)}"
        )
    matching.check_outputs({t.name: t.predict for t in targets}, source, shape)
    return source, skipped


def _labelled(
    config: AttackConfig | EvaluateConfig, source: data.Source, names: Sequence[str], model: str
) -> data.Source:
    """Images in no class folders, or in one alone, among the classes of the attacked model."""
    label = config.label
    if label is None:  # the folder's name may be a class, or mean nothing
        label = next((matching.alike_class(n, names) for n in source.class_names), None)
        if label is None:
            matching.say_predicted(source, names, where=config.data, model=model)
    if label in names:
        return data.Labelled(source, names, label)
    if label in (None, "predicted"):
        return data.Labelled(source, names)
    if label.isdecimal() and int(label) < len(names):
        return data.Labelled(source, names, names[int(label)])
    raise ValueError(
        f"--label {label} is no class of {model}, which tells apart {', '.join(names)}"
    )
