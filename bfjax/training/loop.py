"""The loop of a training run: epochs of steps, each validated, resumable exactly at any step."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

from bfjax import data, models, progress
from bfjax.data import feed
from bfjax.evaluation import Metrics, describe, evaluate_classifier
from bfjax.storage import saves
from bfjax.training import curves
from bfjax.training.plan import Plan, Select
from bfjax.training.resume import (
    TRAINING,
    RunState,
    fingerprint,
    floats,
    restore,
    save,
    tidy,
    write_images,
    write_log,
)
from bfjax.training.step import TrainState, compiled, copied
from bfjax.training.validation import validate


def follow(plan: Plan, state: TrainState, test: data.Source) -> Metrics:
    """Trains, or goes on where a run of this plan stopped, and writes the checkpoint.

    Args:
      plan: what to do.
      state: before the first step; it is used up.
      test: read once, at the end.

    Returns:
      The metrics on `test`.

    Raises:
      ValueError: the folder holds a run with other settings.
      OSError: a state cannot be saved; the ones before it stay.
    """
    split = feed.split_batches(plan.batch_size)
    whole = feed.on_every(split)
    state = jax.device_put(state, whole)
    run = RunState(state, copied(state.kept), [])
    about = plan.settings, plan.fingerprint
    weights = jax.device_put(plan.class_weights, whole)
    step, side = None, None
    writes = jax.process_index() == 0
    with saves(plan.out / TRAINING) as states, progress.bar() as bar:
        if states.latest is None and writes:
            write_images(plan.out, {"train": plan.fingerprint})
        run = restore(states, run, *about, plan.out / TRAINING)
        saved = time.monotonic()
        task = bar.add_task("training", total=plan.epochs * plan.steps)
        bar.advance(task, len(run.history) * plan.steps + len(run.losses))
        while len(run.history) < plan.epochs and not _stalled(run.history, plan):
            started = time.monotonic() - run.seconds
            size = plan.side(len(run.history))
            order = np.random.SeedSequence([plan.seed, len(run.history)]).generate_state(1)
            reader = iter(feed.shuffled(plan.training, plan.batch_size, seed=int(order[0])))
            if run.reader is not None:
                reader.set_state(run.reader)
            for done in range(len(run.losses) + 1, plan.steps + 1):
                images, labels = (
                    jax.make_array_from_process_local_data(split, x) for x in next(reader)
                )
                given = run.state, images, labels, weights
                if step is None or side != size:
                    step, side = None, size  # the one of another size goes first
                    step = compiled(plan.step_at(size, whole), *given)
                state, loss = step(*given)
                run = run._replace(state=state, losses=[*run.losses, loss])
                # one step in flight: all at once, their images would fill the memory
                jax.block_until_ready(run.losses[-2:-1])
                bar.advance(task)
                many = plan.save_steps and done % plan.save_steps == 0
                late = time.monotonic() > saved + 60 * plan.save_minutes
                if done < plan.steps and (many or late):
                    seconds = time.monotonic() - started
                    run = run._replace(reader=reader.get_state(), seconds=seconds)
                    save(states, run, *about)
                    saved = time.monotonic()
            predict = models.as_predict(nnx.merge(plan.graph, *run.state.kept))
            scores = validate(
                predict,
                plan.validation,
                batch_size=plan.batch_size,
                size=size,
                shifted=plan.select == "shifted",
            )
            run = _ended(run, scores, plan, seconds=time.monotonic() - started)
            if writes:  # before the state: one that is saved is in the log
                write_log(plan.out / "log.csv", run.history)
            save(states, run, *about)
            saved = time.monotonic()
            if plan.verbose and writes:
                row = run.history[-1]
                print(
                    f"epoch {row['epoch']} ({row['seconds']:.0f} s): loss {row['train_loss']:.4f}; "
                    f"validation {describe(scores['val'])}",
                    file=sys.stderr,
                    flush=True,
                )
    model = nnx.merge(plan.graph, *run.best)
    predict = models.as_predict(models.freeze(model))
    metrics = evaluate_classifier(predict, test, batch_size=plan.batch_size, warn=False)
    if not writes:
        return metrics
    best = max(run.history, key=lambda row: _rank(row, plan.select))
    curves.draw(plan.out / "curves.png", run.history, kept=best["epoch"])
    metadata = {
        "class_names": list(plan.training.class_names),
        "image_size": plan.sides[-1],
        "resize": plan.resize,
        "metrics": {"test": dataclasses.asdict(metrics), "validation": best},
        "training": plan.settings,
    }
    write_images(plan.out, {"test": fingerprint(test)})
    models.save(model, plan.out, metadata=metadata)
    tidy(plan.out)
    return metrics


def _ended(run: RunState, scores: dict[str, Metrics], plan: Plan, *, seconds: float) -> RunState:
    """The run after an epoch: its row in the log, and its weights if they are the best so far."""
    loss = float(np.mean(floats(run.losses)))
    if not np.isfinite(loss):
        raise ValueError(
            f"epoch {len(run.history) + 1}: the training loss is {loss}, the training diverged: "
            f"delete {plan.out} and begin anew, with a smaller --learning-rate"
        )
    row = {
        "epoch": len(run.history) + 1,
        "image_size": plan.side(len(run.history)),
        "train_loss": loss,
        **{f"{name}_{k}": v for name, m in scores.items() for k, v in _scalars(m).items()},
        "seconds": round(seconds, 1),
    }
    better = all(_rank(row, plan.select) > _rank(past, plan.select) for past in run.history)
    best = copied(run.state.kept) if better else run.best
    return RunState(run.state, best, [*run.history, row])


def _rank(row: dict[str, Any], select: Select) -> tuple[float, ...]:
    """Higher is better; scores at a smaller size of the images do not compare."""
    size, loss = row["image_size"], -row["val_loss"]
    if select == "auc":
        return size, row["val_auc"], loss
    return size, -row["shifted_loss"] if select == "shifted" else loss


def _stalled(history: list[dict[str, Any]], plan: Plan) -> bool:
    """Whether the last `patience` epochs were no better than the best before them."""
    if plan.patience is None or not history:
        return False
    best = max(range(len(history)), key=lambda i: _rank(history[i], plan.select))
    return len(history) - 1 - best >= plan.patience


def _scalars(metrics: Metrics) -> dict[str, Any]:
    fields = dataclasses.asdict(metrics)
    return {k: v for k, v in fields.items() if k not in ("confusion", "intervals")}
