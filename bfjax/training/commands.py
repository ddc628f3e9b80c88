"""`bfjax train` and `bfjax export`: options become a plan here, and only here."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bfjax import data, estimate, models
from bfjax.evaluation import (
    Metrics,
    all_bad_files,
    among_classes,
    check_outputs,
    say_empty_classes,
    tabulate,
    without_bad_files,
)
from bfjax.numbers import check_numbers
from bfjax.training import exported, loop, resume
from bfjax.training.augmentation import Augmentation
from bfjax.training.config import ExportConfig, TrainConfig
from bfjax.training.estimate import of_training
from bfjax.training.exported import Export, Exported
from bfjax.training.hardening import Hardening
from bfjax.training.network import initial_network, warn_of_seen_patients
from bfjax.training.optimizer import make_optimizer
from bfjax.training.patients import split_source
from bfjax.training.plan import Plan, balanced_weights
from bfjax.training.step import TrainState, compute_dtype, start


def train(config: TrainConfig) -> None:
    """The command `bfjax train`: trains, then prints the metrics on the test split."""
    if config.dry_run:
        with all_bad_files(source := _load(config, "train")):
            plan, state = make_plan(config, source)
            if resume.is_finished(config.out):
                resume.same_training(config.out, plan.settings)
            estimate.show([of_training(plan, state, done=resume.epochs_done(config.out))])
        return
    finished = resume.is_finished(config.out)
    metrics = train_classifier(config)
    if jax.process_index() > 0:
        return
    if finished:
        print(f"{config.out}: finished before, nothing was run; its stored metrics:")
    names = models.load_config(config.out).class_names
    print(tabulate(metrics))
    print(f"rows are true, columns predicted, {', '.join(names)}: {metrics.confusion}")
    print(f"checkpoint in {config.out}")


def train_classifier(config: TrainConfig) -> Metrics:
    """Runs `config`, or what is left of it, and writes the checkpoint.

    The epoch with the lowest validation loss is kept: the AUC of held-out patients comes so near
    to one that it no longer tells epochs apart, while the loss still does (`config.select` has
    the AUC decide all the same, and the loss between equals). The test split is read once, at the
    end. A run that is finished is not run again.

    Args:
      config: everything that matters.

    Returns:
      The metrics on the test split.

    Raises:
      ValueError: settings that do not fit the data or the run in `config.out`.
      FileNotFoundError: there are no such data or initial weights.
    """
    if resume.is_finished(config.out):  # before the images are read, which say what to call them
        resume.same_training(config.out, settings_of(config), but="data")
    return fit(config, _load(config, "train"), _load(config, "test"))


def fit(config: TrainConfig, source: data.Source, test: data.Source) -> Metrics:
    """`train_classifier` on given sources.

    Args:
      config: as for `train_classifier`; its `data` and `num_examples` are only recorded.
      source: the training split, from which the validation part is taken.
      test: read once, at the end.

    Returns:
      The metrics on `test`.

    Raises:
      ValueError: settings that do not fit the data or the run in `config.out`.
      FileNotFoundError: there are no such initial weights.
    """
    if not resume.is_finished(config.out):
        with all_bad_files(source, test):
            return loop.follow(*make_plan(config, source), test)
    metrics = resume.stored_metrics(config.out, settings_of(config, source))
    now = {"train": source, "test": test}
    resume.same_images(config.out, {k: resume.fingerprint(v) for k, v in now.items()})
    return metrics


def _load(config: TrainConfig, split: str) -> data.Source:
    source = data.load(
        config.data,
        split,
        image_size=config.image_size,
        resize=config.resize,
        num_examples=config.num_examples if split == "train" else None,
        seed=config.seed,
        labels=config.labels,
        groups=config.groups,
        class_names=config.class_names,
    )
    if config.skip_bad:
        path = config.out / f"skipped-{split}.csv"
        writes = jax.process_index() == 0 and not config.dry_run
        source, _ = without_bad_files(source, path, write=writes)
    if split == "test":
        say_empty_classes(source, f"{config.data}, split {split},")
    return source


def make_plan(config: TrainConfig, source: data.Source) -> tuple[Plan, TrainState]:
    """Splits the training images by patient, and builds what learns from them.

    Args:
      config: the options of `bfjax train`.
      source: the training split.

    Returns:
      What the run does, and the state that it begins with and uses up.

    Raises:
      ValueError: settings that do not fit each other or the images.
      FileNotFoundError: there are no such initial weights.
    """
    options = vars(config)
    check_numbers(at_least=1, batch_size=config.batch_size)
    check_numbers(at_least=0, seed=config.seed)
    check_numbers(above=0, clip_norm=config.clip_norm)
    rates = {k: options[k] for k in ("learning_rate", "head_learning_rate", "weight_decay")}
    check_numbers(at_least=0, below=math.inf, optional=True, **rates)
    check_numbers(at_least=0, below=1, **{k: options[k] for k in ("label_smoothing", "average")})
    hardening = Hardening(**{name: options[name] for name in Hardening.names()})
    training, held = split_source(source, fraction=config.validation, seed=config.seed)
    steps = len(training) // config.batch_size
    if steps < 1 or config.epochs < 1:
        raise ValueError(
            f"nothing to do: {config.epochs} epochs of {len(training)} images in batches of "
            f"{config.batch_size}"
        )
    settings = settings_of(config, source)
    warn_of_seen_patients(config.init, settings)
    classes = tuple(source.class_names)
    channels = source[0]["image"].shape[-1]
    # only what was asked for: not every architecture has every setting
    wanted = {"width": config.width, "dropout": config.dropout}
    network = initial_network(
        config.model,
        class_names=classes,
        channels=channels,
        init=config.init,
        seed=config.seed,
        **{name: v for name, v in wanted.items() if v != getattr(TrainConfig, name)},
    )
    graph, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    optimizer = make_optimizer(
        config.epochs * steps,
        learning_rate=config.learning_rate,
        head_learning_rate=config.head_learning_rate,
        schedule=config.schedule,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    weights = jnp.ones(len(classes))
    if config.class_weights:
        weights = balanced_weights(np.asarray(training.labels), len(classes))
    plan = Plan(
        out=config.out,
        settings=settings,
        fingerprint=resume.fingerprint(source),
        training=training,
        validation=held,
        graph=graph,
        optimizer=optimizer,
        class_weights=weights,
        augmentation=Augmentation(**{name: options[name] for name in Augmentation._fields}),
        hardening=hardening,
        epochs=config.epochs,
        resize=config.resize,
        sides=(*config.progressive, config.image_size),
        batch_size=config.batch_size,
        label_smoothing=config.label_smoothing,
        average=config.average,
        dtype=compute_dtype(config.compute_dtype),
        remat=config.remat,
        select=config.select,
        patience=config.patience,
        save_minutes=config.save_minutes,
        save_steps=config.save_steps,
        seed=config.seed,
        verbose=config.verbose,
    )
    return plan, start(params, statistics, optimizer.init(params), average=config.average)


def settings_of(config: TrainConfig, source: data.Source | None = None) -> dict[str, Any]:
    """What a run's outcome depends on; files by name and contents, not by where they lie.

    Args:
      config: of the run.
      source: the training split, so that the name of its folder tells no patient.

    Returns:
      As JSON gives it back.

    Raises:
      FileNotFoundError: there are no such initial weights.
    """
    settings = dataclasses.asdict(config)
    settings["compute_dtype"] = compute_dtype(config.compute_dtype)
    for free in ("out", "verbose", "save_minutes", "save_steps", "remat", "dry_run"):
        del settings[free]
    if config.harden is None:
        del settings["harden_steps"]
    recent = ("labels", "groups", "class_names", "skip_bad")
    if config.encoding == "linear":
        del settings["encoding"], settings["gamma"]
    for name in (*recent, "harden", "consistency", "noise_fields"):
        if not settings[name]:  # as in runs from before there were these options
            del settings[name]
    for name in settings.keys() & {"labels", "groups"}:
        path = Path(settings[name])
        settings |= {name: path.name, f"{name}_sha256": resume.digest_of(path)}
    name = Path(config.data).expanduser().resolve().name
    settings["data"] = name if source is None else source.public(name)
    if config.init is not None and not config.init.startswith(models.HUB):
        init = Path(config.init).expanduser()
        settings |= {"init": init.name, "init_sha256": resume.digest_of(init)}
    return json.loads(json.dumps(settings))


def export(config: ExportConfig) -> None:
    """The command `bfjax export`: exports, then prints what it changed."""
    if config.dry_run:
        estimate.show([exported.of_export(_export(config))])
        return
    made = export_checkpoint(config)
    before, after = made.before, made.after
    size = sum(file.stat().st_size for file in made.files)
    print(f"{len(made.files)} files of weights, {size / 2**20:.1f} MiB, in {config.out}")
    print(
        f"accuracy {before.accuracy:.2%} before, {after.accuracy:.2%} after "
        f"({after.accuracy - before.accuracy:+.2%}) on {after.count} images; "
        f"loss {before.loss:.5f} before, {after.loss:.5f} after"
    )


def export_checkpoint(config: ExportConfig) -> Exported:
    """Runs `config`.

    Args:
      config: what to export, and how.

    Returns:
      What was written, and the metrics before and after.

    Raises:
      ValueError: the size cannot be read, the export would replace its original, the data set has
        other classes, or a weight is too large for the type.
      FileNotFoundError: there is no such checkpoint, or no such data.
    """
    export = _export(config)
    with all_bad_files(export.source):
        return exported.run(export)


def _export(config: ExportConfig) -> Export:
    size = exported.parse_size(config.shard_size)
    if os.path.realpath(config.out) == os.path.realpath(config.model):
        raise ValueError(f"the export would replace {config.model} itself: choose another --out")
    record, network = models.load_config(config.model), models.load_model(config.model)
    source = data.load(
        config.data,
        config.split,
        image_size=record.image_size,
        resize=record.resize,
        num_examples=config.num_images,
        seed=config.seed,
        labels=config.labels,
        class_names=record.class_names if config.labels else (),
    )
    source = among_classes(source, record.class_names, where=config.data, model=str(config.model))
    with all_bad_files(source):
        shape = source[0]["image"].shape
    check_outputs({str(config.model): models.as_predict(network)}, source, shape)
    return Export(
        model=config.model,
        out=config.out,
        record=record,
        network=network,
        source=source,
        dtype=config.dtype,
        shard_size=size,
        batch_size=config.batch_size,
    )
