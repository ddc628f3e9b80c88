"""`bfjax attack`: attacks every image of a data set, in batches that survive an interruption."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from bfjax import attacks, data, gallery, models, progress, records, summary
from bfjax.attack.batch import run_batch
from bfjax.config import AttackConfig, BiasFieldConfig
from bfjax.types import Attack, Predict


@dataclasses.dataclass(frozen=True)
class Target:
    """A model that judges the adversarial images."""

    name: str
    predict: Predict
    config: Any


def main(config: AttackConfig) -> None:
    """The command `bfjax attack`: runs, then prints the success rates as a table."""
    summary.show(attack_dataset(config), config.out)


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
    count = len(source)
    attack = attack_of(config, source[0]["image"].shape)
    settings = _settings(config, targets, source.class_names, count)
    records.same_settings(config.out / "settings.json", settings)

    starts = range(0, count, config.batch_size)
    todo = [i for i in starts if not _shard(config, i).exists()]
    finished = config.out / "summary.json"
    if not todo and finished.exists():
        return json.loads(finished.read_text(encoding="utf-8"))
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
    results = records.without_params(table)
    records.write_csv(config.out / "records.csv", results)
    whole = summary.summarize(results, source.class_names, [t.name for t in targets])
    whole = {"settings": settings} | whole
    whole["run"] = summary.environment() | {
        "images_in_this_run": sum(min(config.batch_size, count - i) for i in todo),
        "seconds_of_this_run": round(seconds, 2),
    }
    if config.gallery:
        _draw_gallery(config, attack, source, table)
    records.write_json(finished, whole)  # last: a folder that has it is finished
    return whole


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
    """One attacked image again, bit for bit, from the parameters that its run stored.

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
    log_field, adversarial = _perturb(attack, params, image)
    return image, log_field, adversarial


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
        num_examples=config.num_images,
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
    params = jax.tree.map(lambda leaf: leaf[: len(batch)], result.params)
    made = [_perturb(attack, _row(params, i), jnp.asarray(images[i])) for i in range(len(batch))]
    fields, adversarial = (np.stack(arrays) for arrays in zip(*made, strict=True))

    columns: dict[str, Any] = {
        "file": [record["name"] for record in batch],
        "label": [source.class_names[i] for i in labels],
    }
    for target in targets:
        prefix = "" if target is targets[0] else f"{target.name}:"
        for kind, pictures in (("clean", images), ("adversarial", adversarial)):
            logits = _logits(target.predict, _pad(pictures, config))
            logits = np.asarray(logits, np.float64)[: len(batch)]
            if not np.isfinite(logits).all():
                raise ValueError(f"{target.name} gives NaN or infinite logits; its weights are bad")
            scores = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
            predicted = logits.argmax(1)
            columns[f"{prefix}{kind}_prediction"] = [source.class_names[i] for i in predicted]
            columns[f"{prefix}{kind}_score"] = scores[np.arange(len(batch)), labels]
    change = np.abs(np.asarray(adversarial, np.float64) - images)
    columns |= {
        "max_change": change.max((1, 2, 3)),
        "mean_change": change.mean((1, 2, 3)),
        "max_log_field": np.abs(fields).max((1, 2)),
        "objective": np.asarray(result.trace.objective)[: len(batch), -1],
    }
    return columns, params


def _row(batched, i: int):
    return jax.tree.map(lambda leaf: leaf[i], batched)


def _pad(values: np.ndarray, config: AttackConfig) -> np.ndarray:
    """Repeats the last entry up to the batch size."""
    missing = config.batch_size - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


@jax.jit
def _logits(predict, images):
    return jax.vmap(predict)(images)


@jax.jit
def _perturb(attack, params, image):
    """(B̂, X_a) of one image: the one program that makes the image judged and the image rebuilt.

    In a batch, or fused with the classifier, XLA may round differently.
    """
    return attack.perturbation.log_field(params), attack.perturbation.apply(params, image)


def _draw_gallery(config: AttackConfig, attack: Attack, source, table: pa.Table) -> None:
    """Fooled cases of every class first, then some that resisted; rebuilt from their parameters."""
    rows = records.without_params(table).to_pylist()
    cases = gallery.choose(rows, config.gallery)
    with progress.bar() as bar:
        for row in bar.track(cases, description="drawing"):
            image, log_field, adversarial = rebuild(attack, source, table, row)
            case = gallery.Case(rows[row], image, log_field, adversarial)
            gallery.draw(config.out / "gallery", row, case)
