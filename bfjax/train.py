"""Fine-tunes a classifier: AdamW, one cycle, validation by patient, resumable after each epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from jaxtyping import Array, Float, Int

from bfjax import data, models, progress
from bfjax.classification import Metrics, batches, evaluate_classifier, split_patients
from bfjax.config import TrainConfig
from bfjax.optimization import TrainState, make_optimizer, make_step

TRAINING = "training.safetensors"


class Progress(NamedTuple):
    """What one epoch hands to the next: the state, the best model so far, the log."""

    state: TrainState
    best: tuple[Any, Any]
    history: list[dict[str, Any]]


def main(config: TrainConfig) -> None:
    """The command `bfjax train`: trains, then prints the metrics on the test split."""
    metrics = train(config)
    names = models.load_config(config.out).class_names
    print(f"test: {describe(metrics)}")
    print(f"rows are true, columns predicted, {', '.join(names)}: {metrics.confusion}")
    print(f"checkpoint in {config.out}")


def describe(metrics: Metrics) -> str:
    """Metrics as a line of text.

    Args:
      metrics: of any classifier.

    Returns:
      Accuracy, AUC and, for two classes, sensitivity and specificity.
    """
    text = f"accuracy {metrics.accuracy:.2%} of {metrics.count}, AUC {metrics.auc:.4f}"
    if metrics.sensitivity is None or metrics.specificity is None:
        return text
    return f"{text}, sensitivity {metrics.sensitivity:.2%}, specificity {metrics.specificity:.2%}"


def train(config: TrainConfig) -> Metrics:
    """Runs `config`, or what is left of it, and writes the checkpoint.

    The epoch with the lowest validation loss is kept (accuracy and AUC of held-out patients come
    so near to one that they no longer tell epochs apart); the test split is read once, at the end.

    Args:
      config: everything that matters.

    Returns:
      The metrics on the test split.

    Raises:
      ValueError: settings that do not fit the data or the interrupted run in `config.out`.
      FileNotFoundError: there are no such data or initial weights.
    """
    source, test = (
        data.load(
            config.data,
            split,
            image_size=config.image_size,
            resize=config.resize,
            num_examples=config.num_examples if split == "train" else None,
            seed=config.seed,
        )
        for split in ("train", "test")
    )
    return fit(config, source, test)


def fit(config: TrainConfig, source: data.Source, test: data.Source) -> Metrics:
    """`train` on given sources.

    Args:
      config: as for `train`; its `data` and `num_examples` are only recorded.
      source: the training split, from which the validation part is taken.
      test: read once, at the end.

    Returns:
      The metrics on `test`.

    Raises:
      ValueError: settings that do not fit the data or the interrupted run in `config.out`.
      FileNotFoundError: there are no such initial weights.
    """
    kept, held = split_patients(
        np.asarray(source.labels), source.groups, fraction=config.validation, seed=config.seed
    )
    training, validation = data.Subset(source, kept), data.Subset(source, held)
    steps = len(training) // config.batch_size
    if steps < 1 or config.epochs < 1:
        raise ValueError(
            f"nothing to do: {config.epochs} epochs of {len(training)} images in batches of "
            f"{config.batch_size}"
        )
    channels = source[0]["image"].shape[-1]
    graph, params, statistics = nnx.split(
        _initial_model(config, len(source.class_names), channels), nnx.Param, nnx.BatchStat
    )
    optimizer = make_optimizer(config, config.epochs * steps)
    state = TrainState(params, statistics, optimizer.init(params), jnp.zeros((), jnp.int32))
    file = config.out / TRAINING
    run = Progress(state, (params, statistics), [])
    if file.exists():
        run = _resume(file, run, config)
    config.out.mkdir(parents=True, exist_ok=True)
    weights = _class_weights(config, np.asarray(training.labels), len(source.class_names))
    step = make_step(graph, optimizer, config)
    with progress.bar() as bar:
        task = bar.add_task("training", total=config.epochs * steps)
        bar.advance(task, len(run.history) * steps)
        for epoch in range(len(run.history), config.epochs):
            started = time.perf_counter()
            state, losses = run.state, []
            order = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0])
            for images, labels in batches(training, config.batch_size, shuffle=order):
                state, loss = step(state, images, labels, weights)
                losses.append(loss)
                # one step in flight: all at once, their images would fill the memory
                jax.block_until_ready(losses[-2:-1])
                bar.advance(task)
            predict = models.as_predict(nnx.merge(graph, state.params, state.statistics))
            measured = evaluate_classifier(predict, validation, batch_size=config.batch_size)
            row = {
                "epoch": epoch + 1,
                "train_loss": float(np.mean(jax.device_get(losses))),
                **{f"val_{k}": v for k, v in _scalars(measured).items()},
                "seconds": round(time.perf_counter() - started, 1),
            }
            better = all(_rank(row) > _rank(past) for past in run.history)
            best = (state.params, state.statistics) if better else run.best
            run = Progress(state, best, [*run.history, row])
            _write(file, run, config)
            _write_log(config.out / "log.csv", run.history)
            if config.verbose:
                print(
                    f"epoch {epoch + 1} ({row['seconds']:.0f} s): loss {row['train_loss']:.4f}; "
                    f"validation {describe(measured)}",
                    file=sys.stderr,
                    flush=True,
                )
    model = nnx.merge(graph, *run.best)
    predict = models.as_predict(models.freeze(model))
    metrics = evaluate_classifier(predict, test, batch_size=config.batch_size)
    kept_epoch = max(run.history, key=_rank)
    metadata = {
        "class_names": list(source.class_names),
        "image_size": config.image_size,
        "resize": config.resize,
        "metrics": {"test": dataclasses.asdict(metrics), "validation": kept_epoch},
        "training": _settings(config),
    }
    models.save(model, config.out, metadata=metadata)
    file.unlink()
    return metrics


def _initial_model(config: TrainConfig, num_classes: int, channels: int) -> nnx.Module:
    # only what was asked for: not every architecture has every setting
    wanted = {"width": config.width, "dropout": config.dropout}
    settings = {k: v for k, v in wanted.items() if v != getattr(TrainConfig, k)}
    model = models.build(
        config.model, num_classes=num_classes, channels=channels, seed=config.seed, **settings
    )
    if config.init is None:
        return model
    # a file of ours has the head of our classes, ImageNet's has another
    return models.load_pretrained(model, config.init, head=config.init.suffix == ".safetensors")


def _class_weights(
    config: TrainConfig, labels: Int[np.ndarray, " n"], classes: int
) -> Float[Array, " k"]:
    """The weights n / (k n_c), whose mean over the images is 1."""
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1))
    return jnp.asarray(weights if config.class_weights else np.ones(classes), jnp.float32)


def _rank(row: dict[str, Any]) -> float:
    """Higher is better: by the loss, since the AUC of a good classifier saturates at one."""
    return -row["val_loss"]


def _scalars(metrics: Metrics) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(metrics).items() if k != "confusion"}


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What must be equal for a run to go on."""
    fields = dataclasses.asdict(config)
    return {k: str(v) if isinstance(v, Path) else v for k, v in fields.items() if k not in _FREE}


_FREE = ("out", "verbose")


def _leaves(run: Progress) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path((run.state, run.best))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _write(file: Path, run: Progress, config: TrainConfig) -> None:
    """The whole run in one file that is replaced at once: a kill leaves the old or the new."""
    arrays = {name: np.asarray(leaf) for name, leaf in _leaves(run).items()}
    about = {"history": json.dumps(run.history), "settings": json.dumps(_settings(config))}
    temporary = file.with_suffix(".part")
    temporary.write_bytes(safetensors.numpy.save(arrays, metadata=about))
    temporary.replace(file)


def _resume(file: Path, like: Progress, config: TrainConfig) -> Progress:
    """Reads what `_write` wrote, into the structure of `like`."""
    advice = f"choose another --out, or delete {file} to start anew"
    try:
        with safetensors.safe_open(file, "numpy") as opened:
            about = opened.metadata()
            history, settings = json.loads(about["history"]), json.loads(about["settings"])
            stored = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): {advice}") from error
    wanted = json.loads(json.dumps(_settings(config)))
    if differ := sorted(k for k in {*wanted, *settings} if wanted.get(k) != settings.get(k)):
        raise ValueError(f"{config.out} holds an interrupted run with other {differ}: {advice}")
    models.check_weights(_leaves(like), stored, source=str(file))
    arrays = [jnp.asarray(stored[name]) for name in _leaves(like)]
    state, best = jax.tree.unflatten(jax.tree.structure((like.state, like.best)), arrays)
    return Progress(state, best, history)


def _write_log(file: Path, history: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    file.write_text(text.getvalue())
