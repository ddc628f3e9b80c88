"""`bfjax attack`: attacks every image of a data set, in batches that survive an interruption."""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bfjax import attacks, data, gallery, models, progress, records
from bfjax.attack.batch import run_batch
from bfjax.config import AttackConfig, BiasFieldConfig
from bfjax.metrics import success_rate
from bfjax.types import Attack, Predict


@dataclasses.dataclass(frozen=True)
class Target:
    """A model that judges the adversarial images."""

    name: str
    predict: Predict
    config: Any


def main(config: AttackConfig) -> None:
    """The command `bfjax attack`: runs, then prints the success rates as a table."""
    print_summary(attack_dataset(config), config.out)


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """Prints the success rates of a summary, k / N and percent, for each model and direction.

    Args:
      summary: from `attack_dataset`.
      out: where the details lie.
    """
    table = Table(title=f"success of the attack on {summary['images']} images")
    for heading in ("judged by", "direction", "fooled", "correct when clean", "success rate"):
        table.add_column(heading, justify="left" if heading[0] in "jd" else "right")
    for name, judged in summary["targets"].items():
        for direction, rate in [("all", judged), *judged["directions"].items()]:
            percent = "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} %"
            table.add_row(name, direction, str(rate["fooled"]), str(rate["correct"]), percent)
            name = ""
    console = Console()
    console.print(table)
    console.print(f"details in {out}: summary.json, records.csv, gallery/", highlight=False)


def attack_dataset(config: AttackConfig) -> dict[str, Any]:
    """Runs `config`, or what is left of it, and returns the summary.

    Args:
      config: what to attack, with what, and where the results go.

    Returns:
      What `summary.json` holds.

    Raises:
      ValueError: for options, images or checkpoints that do not fit, naming the culprit.
      FileNotFoundError: for missing data or checkpoints.
    """
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {config.batch_size}")
    targets = _targets(config)
    source = _load_source(config, targets)
    count = len(source) if config.num_images is None else min(config.num_images, len(source))
    if count < 1:
        raise ValueError(f"no image to attack: --num-images {config.num_images}")
    attack = attack_of(config, source[0]["image"].shape)
    settings = _settings(config, targets, source.class_names, count)
    records.same_settings(config.out / "settings.json", settings)

    starts = range(0, count, config.batch_size)
    todo = [i for i in starts if not _shard(config, i).exists()]
    started = time.perf_counter()
    with progress.bar() as bar:
        task = bar.add_task("attacking", total=len(todo) * attack.num_steps)
        for start in todo:
            indices = range(start, min(start + config.batch_size, count))
            columns, params = _attack_batch(
                config, attack, targets, source, indices, lambda _: bar.advance(task)
            )
            records.write_shard(_shard(config, start), columns, params)
    seconds = time.perf_counter() - started

    table = records.read_shards(config.out / "shards")
    records.write_csv(config.out / "records.csv", table)
    summary = _summary(settings, targets, source.class_names, table)
    summary["run"] = _environment() | {
        "images_in_this_run": sum(min(config.batch_size, count - i) for i in todo),
        "seconds_of_this_run": round(seconds, 2),
    }
    records.write_json(config.out / "summary.json", summary)
    if config.gallery:
        _draw_gallery(config, attack, source, table)
    return summary


def attack_of(config: BiasFieldConfig, image_shape: tuple[int, ...]) -> Attack:
    """The attack that the options describe.

    Args:
      config: the options.
      image_shape: (h, w, c) of the images.

    Returns:
      The attack.
    """
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(BiasFieldConfig)}
    return attacks.bias_field(image_shape, **options)


def rebuild(
    attack: Attack, source: data.Source, table: pa.Table, row: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One attacked image again, from the parameters that its run stored.

    Args:
      attack: the attack of the run.
      source: the images of the run.
      table: its shards.
      row: which image.

    Returns:
      The clean image (h, w, c), its log field (h, w), the adversarial image (h, w, c).
    """
    image = jnp.asarray(data.to_float(source[row]["image"]))
    like = jax.eval_shape(lambda x: attack.perturbation.init(x, jax.random.key(0)), image)
    params = records.read_params(table, row, like)
    log_field = attack.perturbation.log_field
    assert log_field is not None  # a bias field has one
    return image, log_field(params), attack.perturbation.apply(params, image)


def _targets(config: AttackConfig) -> list[Target]:
    """The attacked model first, then those that only judge."""
    found = []
    for path in (config.model, *config.targets):
        name = path.resolve().name
        if any(name == other.name for other in found):
            raise ValueError(f"two models are called {name}: {path}; rename one of the folders")
        found.append(Target(name, models.load(path), models.load_config(path)))
    first, *others = found
    for other in others:
        for what in ("class_names", "image_size", "resize"):
            one, two = getattr(first.config, what), getattr(other.config, what)
            if one != two:
                raise ValueError(f"{what} of {first.name} is {one}, of {other.name} {two}")
    return found


def _load_source(config: AttackConfig, targets: list[Target]) -> data.Source:
    trained = targets[0].config
    source = data.load(
        config.data,
        config.split,
        image_size=trained.image_size,
        resize=trained.resize,
        seed=config.seed,
    )
    if tuple(source.class_names) != tuple(trained.class_names):
        raise ValueError(
            f"{config.data} has the classes {', '.join(source.class_names)}, "
            f"{config.model} was trained on {', '.join(trained.class_names)}"
        )
    return source


def _settings(config: AttackConfig, targets, class_names, count: int) -> dict[str, Any]:
    """What the results depend on: a resumed run must have the same."""
    settings = dataclasses.asdict(config) | {"extent": list(config.extent)}
    for presentational in ("out", "gallery", "targets", "num_images", "model"):
        del settings[presentational]
    return settings | {
        "num_images": count,
        "class_names": list(class_names),
        "image_size": targets[0].config.image_size,
        "resize": targets[0].config.resize,
        "models": {
            t.name: {"sha256": t.config.sha256, "architecture": t.config.architecture}
            for t in targets
        },
    }


def _shard(config: AttackConfig, start: int) -> Path:
    return config.out / "shards" / f"{start:07d}.parquet"


def _attack_batch(config, attack: Attack, targets, source, indices: range, on_step):
    """(records, params) of the images at `indices`; a smaller last batch compiles nothing."""
    batch = [source[i] for i in indices]
    for record in batch:  # they differ where the checkpoint names no image size
        if record["image"].shape != source[0]["image"].shape:
            height, width = record["image"].shape[:2]
            raise ValueError(
                f"{record['name']} is {height} x {width}, the first image "
                f"{' x '.join(map(str, source[0]['image'].shape[:2]))}: bring them to one size"
            )
    images = np.stack([data.to_float(record["image"]) for record in batch])
    labels = np.array([record["label"] for record in batch], np.int32)
    keys = None
    if config.start_noise:  # a key an image, so that results do not depend on the batches
        root = jax.random.key(config.seed)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(_pad(np.array(indices), config))
    clean, classes = _pad(images, config), _pad(labels, config)
    result = run_batch(attack, targets[0].predict, clean, classes, key=keys, on_step=on_step)
    fields = _log_fields(attack, result.params)

    columns: dict[str, Any] = {
        "file": [record["name"] for record in batch],
        "label": [source.class_names[i] for i in labels],
    }
    for target in targets:
        prefix = "" if target is targets[0] else f"{target.name}:"
        for kind, pictures in (("clean", clean), ("adversarial", result.adversarial)):
            logits = np.asarray(_logits(target.predict, pictures), np.float64)[: len(batch)]
            if not np.isfinite(logits).all():
                raise ValueError(f"{target.name} gives NaN or infinite logits; its weights are bad")
            scores = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
            predicted = logits.argmax(1)
            columns[f"{prefix}{kind}_prediction"] = [source.class_names[i] for i in predicted]
            columns[f"{prefix}{kind}_score"] = scores[np.arange(len(batch)), labels]
    change = np.abs(np.asarray(result.adversarial, np.float64) - clean)[: len(batch)]
    columns |= {
        "max_change": change.max((1, 2, 3)),
        "mean_change": change.mean((1, 2, 3)),
        "max_log_field": np.abs(np.asarray(fields)).max((1, 2))[: len(batch)],
        "objective": np.asarray(result.trace.objective)[: len(batch), -1],
    }
    return columns, jax.tree.map(lambda leaf: leaf[: len(batch)], result.params)


def _pad(values: np.ndarray, config: AttackConfig) -> np.ndarray:
    """Repeats the last entry up to the batch size."""
    missing = config.batch_size - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


@jax.jit
def _logits(predict, images):
    return jax.vmap(predict)(images)


@jax.jit
def _log_fields(attack, params):
    return jax.vmap(attack.perturbation.log_field)(params)


def _summary(settings, targets, class_names, table: pa.Table) -> dict[str, Any]:
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names[:]}
    labels = np.searchsorted(class_names, columns["label"])
    judged = {}
    for target in targets:
        prefix = "" if target is targets[0] else f"{target.name}:"
        clean, adversarial = (
            np.searchsorted(class_names, columns[f"{prefix}{kind}_prediction"])
            for kind in ("clean", "adversarial")
        )
        judged[target.name] = _as_json(success_rate(labels, clean, adversarial)) | {
            "directions": {
                f"{name}→{_others(class_names, i)}": _as_json(
                    success_rate(labels[labels == i], clean[labels == i], adversarial[labels == i])
                )
                for i, name in enumerate(class_names)
            }
        }
    return {
        "settings": settings,
        "images": len(labels),
        "targets": judged,
        "mean_max_change": float(columns["max_change"].mean()),
        "mean_change": float(columns["mean_change"].mean()),
        "median_max_log_field": float(np.median(columns["max_log_field"])),
    }


def _others(class_names, index: int) -> str:
    others = [name for i, name in enumerate(class_names) if i != index]
    return others[0] if len(others) == 1 else "other"


def _as_json(rate) -> dict[str, Any]:
    return rate._asdict() | {"rate": None if math.isnan(rate.rate) else rate.rate}


def _environment() -> dict[str, Any]:
    device = jax.devices()[0]
    packages = ("bfjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {device.platform} ({device.device_kind})",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _draw_gallery(config: AttackConfig, attack: Attack, source, table: pa.Table) -> None:
    """Fooled cases of every class first, then some that resisted; rebuilt from their parameters."""
    rows = table.select([n for n in table.column_names if not n.startswith(records.PARAMS)])
    cases = gallery.choose(rows.to_pylist(), config.gallery)
    with progress.bar() as bar:
        for row in bar.track(cases, description="drawing"):
            image, log_field, adversarial = rebuild(attack, source, table, row)
            case = gallery.Case(rows.slice(row, 1).to_pylist()[0], image, log_field, adversarial)
            gallery.draw(config.out / "gallery", row, case)
