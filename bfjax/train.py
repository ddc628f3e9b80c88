"""Fine-tunes a classifier: AdamW, validation by patient, resumable exactly at any step."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

from bfjax import curves, data, estimate, feed, models, progress
from bfjax.classification import (
    Metrics,
    describe,
    evaluate_classifier,
    report,
)
from bfjax.config import TrainConfig
from bfjax.optimization import make_step
from bfjax.preparation import prepare, side_of
from bfjax.resume import saves
from bfjax.runs import (
    TRAINING,
    Progress,
    finished,
    floats,
    restore,
    save,
    settings_of,
    tidy,
    write_log,
)
from bfjax.validation import validate

__all__ = ["describe", "fit", "main", "report", "train"]


def main(config: TrainConfig) -> None:
    """The command `bfjax train`: trains, then prints the metrics on the test split."""
    if config.dry_run:
        estimate.show([estimate.of_training(config, _load(config, "train"))])
        return
    if metrics := finished(config):
        print(f"{config.out} holds this run, finished before; its stored metrics:")
    else:
        metrics = train(config)
    if jax.process_index() > 0:
        return
    names = models.load_config(config.out).class_names
    print(report(metrics))
    print(f"rows are true, columns predicted, {', '.join(names)}: {metrics.confusion}")
    print(f"checkpoint in {config.out}")


def train(config: TrainConfig) -> Metrics:
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
    if metrics := finished(config):
        return metrics
    return fit(config, _load(config, "train"), _load(config, "test"))


def _load(config: TrainConfig, split: str) -> data.Source:
    return data.load(
        config.data,
        split,
        image_size=config.image_size,
        resize=config.resize,
        num_examples=config.num_examples if split == "train" else None,
        seed=config.seed,
    )


def fit(config: TrainConfig, source: data.Source, test: data.Source) -> Metrics:
    """`train` on given sources.

    Args:
      config: as for `train`; its `data` and `num_examples` are only recorded.
      source: the training split, from which the validation part is taken.
      test: read once, at the end.

    Returns:
      The metrics on `test`.

    Raises:
      ValueError: settings that do not fit the data or the run in `config.out`.
      FileNotFoundError: there are no such initial weights.
    """
    if metrics := finished(config):
        return metrics
    training, validation, graph, optimizer, state, steps, weights = prepare(config, source)
    split = feed.split_batches(config.batch_size)
    whole = feed.on_every(split)
    state = jax.device_put(state, whole)
    run = Progress(state, state.kept, [])
    # of other images the rest of a run would be another run
    names = hashlib.sha256("\n".join(source.names).encode()).hexdigest()
    settings = settings_of(config) | {"names of the images (sha256)": names}
    step_at = functools.cache(
        lambda size: make_step(graph, optimizer, config, size=size, placed=whole)
    )
    writes = jax.process_index() == 0
    with saves(config.out / TRAINING) as states, progress.bar() as bar:
        run = restore(states, run, settings, config.out / TRAINING)
        saved = time.monotonic()
        task = bar.add_task("training", total=config.epochs * steps)
        bar.advance(task, len(run.history) * steps + len(run.losses))
        while len(run.history) < config.epochs and not _stalled(run.history, config):
            started = time.monotonic() - run.seconds
            size = side_of(config, len(run.history))
            step = step_at(size)
            order = np.random.SeedSequence([config.seed, len(run.history)]).generate_state(1)
            reader = iter(feed.shuffled(training, config.batch_size, seed=int(order[0])))
            if run.reader is not None:
                reader.set_state(run.reader)
            for done in range(len(run.losses) + 1, steps + 1):
                images, labels = (
                    jax.make_array_from_process_local_data(split, x) for x in next(reader)
                )
                state, loss = step(run.state, images, labels, weights)
                run = run._replace(state=state, losses=[*run.losses, loss])
                # one step in flight: all at once, their images would fill the memory
                jax.block_until_ready(run.losses[-2:-1])
                bar.advance(task)
                many = config.save_steps and done % config.save_steps == 0
                if done < steps and (many or time.monotonic() > saved + 60 * config.save_minutes):
                    seconds = time.monotonic() - started
                    run = run._replace(reader=reader.get_state(), seconds=seconds)
                    save(states, run, settings)
                    saved = time.monotonic()
            predict = models.as_predict(nnx.merge(graph, *run.state.kept))
            scores = validate(predict, validation, config, size=size)
            run = _ended(run, scores, config, seconds=time.monotonic() - started)
            if writes:  # before the state: one that is saved is in the log
                write_log(config.out / "log.csv", run.history)
            save(states, run, settings)
            saved = time.monotonic()
            if config.verbose and writes:
                row = run.history[-1]
                print(
                    f"epoch {row['epoch']} ({row['seconds']:.0f} s): loss {row['train_loss']:.4f}; "
                    f"validation {describe(scores['val'])}",
                    file=sys.stderr,
                    flush=True,
                )
    model = nnx.merge(graph, *run.best)
    predict = models.as_predict(models.freeze(model))
    metrics = evaluate_classifier(predict, test, batch_size=config.batch_size)
    if not writes:
        return metrics
    best = max(run.history, key=lambda row: _rank(row, config))
    curves.draw(config.out / "curves.png", run.history, kept=best["epoch"])
    metadata = {
        "class_names": list(source.class_names),
        "image_size": config.image_size,
        "resize": config.resize,
        "metrics": {"test": dataclasses.asdict(metrics), "validation": best},
        "training": settings_of(config),
    }
    models.save(model, config.out, metadata=metadata)
    tidy(config.out)
    return metrics


def _ended(
    run: Progress, scores: dict[str, Metrics], config: TrainConfig, *, seconds: float
) -> Progress:
    """The run after an epoch: its row in the log, and its weights if they are the best so far."""
    row = {
        "epoch": len(run.history) + 1,
        "image_size": side_of(config, len(run.history)),
        "train_loss": float(np.mean(floats(run.losses))),
        **{f"{name}_{k}": v for name, m in scores.items() for k, v in _scalars(m).items()},
        "seconds": round(seconds, 1),
    }
    better = all(_rank(row, config) > _rank(past, config) for past in run.history)
    best = run.state.kept if better else run.best
    return Progress(run.state, best, [*run.history, row])


def _rank(row: dict[str, Any], config: TrainConfig) -> tuple[float, ...]:
    """Higher is better; scores at a smaller size of the images do not compare."""
    size, loss = row["image_size"], -row["val_loss"]
    if config.select == "auc":
        return size, row["val_auc"], loss
    return size, -row["shifted_loss"] if config.select == "shifted" else loss


def _stalled(history: list[dict[str, Any]], config: TrainConfig) -> bool:
    """Whether the last `patience` epochs were no better than the best before them."""
    if config.patience is None or not history:
        return False
    best = max(range(len(history)), key=lambda i: _rank(history[i], config))
    return len(history) - 1 - best >= config.patience


def _scalars(metrics: Metrics) -> dict[str, Any]:
    fields = dataclasses.asdict(metrics)
    return {k: v for k, v in fields.items() if k not in ("confusion", "intervals")}
