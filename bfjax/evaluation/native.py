"""Attacked images at the resolution of their originals: written, read back, judged again.

Convention:
    A file is written once and only as a whole, so an interrupted run goes on with the next one. Its
    name comes from the number and the name of the original's file, never from what is in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from bfjax import data, metrics, progress, storage
from bfjax.data import feed
from bfjax.estimate import Estimate, seconds
from bfjax.evaluation import cells, identity
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.classes import from_text
from bfjax.evaluation.targets import answers
from bfjax.types import Attack, Params, Perturbation

FOLDER = "adversarial"
_MADE_OF = "native_settings.json"


def write(cell: Cell) -> dict[str, Any]:
    """Writes the images of a finished attack at native resolution, and has all models judge them.

    The files are OUT/adversarial/: DICOM for originals that are DICOM, at their bit depth, else PNG
    of 16 bits. What the models see is what a reader of these files gets, brought to the size of the
    attack. OUT/native.csv has a row an image, OUT/native.json the rates.

    Args:
      cell: all of whose shards are there; its attack is a bias field.

    Returns:
      What `native.json` holds: the rate of each model, over what it got right when clean.

    Raises:
      ValueError: an original cannot be decoded, or the images are no longer those of the attack.
      OSError: an original cannot be read, or a file not be written; those before it stay.
    """
    table = storage.read_shards(cell.out / "shards")
    rows = storage.without_params(table).to_pylist()
    if cell.source.names != [row["file"] for row in rows]:
        raise ValueError(f"{cell.settings['data']} no longer holds the images of {cell.out}")
    made_of, finished = _made_of(cell, table), cell.out / "native.json"
    if _finished(cell, made_of, [row["file"] for row in rows]):
        return storage.read_json(finished)
    images = storage.read_json(cell.out / "settings.json").get("images")
    identity.same_images(cell.out, images, cell.fingerprint)
    before = storage.read_json(cell.out / _MADE_OF)
    if not before:
        identity.nothing_there(cell.out, FOLDER)
    elif before != made_of:
        raise ValueError(
            f"{cell.out / FOLDER} was made of another attack than {cell.out / 'shards'} holds now: "
            "delete it, and run again"
        )
    storage.write_json(cell.out / _MADE_OF, made_of)
    like = _params_like(cell)
    split = feed.split_locally()
    ready = cells.placed(cell, feed.on_every(split))
    at_once = split.mesh.size * cell.batch_size
    found: list[dict[str, Any]] = []
    with progress.bar() as bar:
        task = bar.add_task("writing at native size", total=len(rows))
        for start in range(0, len(rows), at_once):
            batch, files = rows[start : start + at_once], []
            for i, row in enumerate(batch, start):
                path = _written(cell, i, row["file"])
                if path is None:
                    params = storage.read_params(table, i, like)
                    path = _write_one(cell, params, i, row["file"])
                files.append(path)
                bar.advance(task)
            found += _judge(ready, split, files, batch)
    storage.write_csv(cell.out / "native.csv", pa.Table.from_pylist(found))
    rates = {
        "images": len(found),
        "targets": {t.name: _rate(found, cell.prefix(t)) for t in cell.targets},
    }
    storage.write_json(finished, rates)
    return rates


def is_written(cell: Cell) -> bool:
    """Whether `write` has nothing left to do.

    Args:
      cell: all of whose shards are there.

    Returns:
      Whether all images are written, and judged by all models.
    """
    table = storage.read_shards(cell.out / "shards")
    return _finished(cell, _made_of(cell, table), table["file"].to_pylist())


def _finished(cell: Cell, made_of: dict[str, Any], names: Sequence[str]) -> bool:
    known = storage.read_json(cell.out / _MADE_OF) or made_of  # older ones say nothing
    judged = storage.read_json(cell.out / "native.json").get("targets", {})
    return (
        known == made_of
        and all(target.name in judged for target in cell.targets)
        and all(_written(cell, i, name) for i, name in enumerate(names))
    )


def _made_of(cell: Cell, table: pa.Table) -> dict[str, Any]:
    """What the files depend on beside the settings: images, and what was found for each."""
    digest = hashlib.sha256()
    for name in sorted(n for n in table.column_names if n.startswith(storage.PARAMS)):
        for row in table[name].to_pylist():
            digest.update(np.asarray(row, np.float64).tobytes())
    return {"images": cell.fingerprint.sha256, "parameters": digest.hexdigest()}


def of_native(cell: Cell) -> Estimate:
    """What `write` would take, reckoned from the first image.

    Args:
      cell: of the attack, a bias field, whether finished or not.

    Returns:
      The estimate: all images, as large as the first, in 16 bits before compression.

    Raises:
      ValueError: the first original cannot be decoded.
      OSError: it cannot be read.
    """
    image = data.to_float(cell.source.original(0).image)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), _params_like(cell))
    took = seconds(lambda: adversarial_at(_at(cell), params, image))
    count = len(cell.source)
    return Estimate(str(cell.out / FOLDER), f"{count} images", count * took, count * 2 * image.size)


def _at(cell: Cell) -> Callable[[tuple[int, int]], Perturbation]:
    assert cell.perturbation_at is not None  # `bfjax attack` makes no other attacks
    return cell.perturbation_at


def _params_like(cell: Cell) -> Params:
    """What the attack stored for each image, whatever the image's size."""
    assert isinstance(cell.attack, Attack)  # `bfjax attack` makes no others
    init = cell.attack.perturbation.init
    image = jax.ShapeDtypeStruct(cell.source[0]["image"].shape, jnp.float32)
    return jax.eval_shape(lambda x: init(x, jax.random.key(0)), image)


def _written(cell: Cell, row: int, name: str) -> Path | None:
    """The file of an attacked image, if it is there."""
    paths = (_path(cell, row, name, suffix) for suffix in ("png", "dcm"))
    return next((path for path in paths if path.exists()), None)


def _path(cell: Cell, row: int, name: str, suffix: str) -> Path:
    return cell.out / FOLDER / f"{file_stem(row, name)}.{suffix}"


def _write_one(cell: Cell, params: Params, row: int, name: str) -> Path:
    original = cell.source.original(row)
    image = adversarial_at(_at(cell), params, data.to_float(original.image))
    path = _path(cell, row, name, "png" if original.dicom is None else "dcm")
    if original.dicom is None:
        data.write_png16(image, path)
    else:
        data.derived_dicom(original.dicom, image, path)
    return path


def file_stem(row: int, name: str) -> str:
    """A harmless name for the file of an image, without its ending.

    Args:
      row: the number of the image, which tells apart images of one name.
      name: its own name, with its class folder.

    Returns:
      The number, and what is left of the name in ASCII.

    Example:
      >>> file_stem(3, "NORMAL/../z<ü>.jpeg")
      '00003_NORMAL_z'
    """
    words = re.findall(r"[A-Za-z0-9.-]*[A-Za-z0-9]", re.sub(r"\.[^./]*$", "", name))
    return "_".join([f"{row:05d}", *(word.lstrip(".-") for word in words)])[:80].rstrip("_.-")


def adversarial_at(
    perturbation_at: Callable[[tuple[int, int]], Perturbation],
    params: Params,
    image: Float[np.ndarray, "h w c"],
) -> Float[np.ndarray, "h w c"]:
    """X_a of an image of any size, from the parameters that were found at the attack's (Eq. 1, 2).

    Args:
      perturbation_at: what the attack perturbs images of a size (h, w) with.
      params: what it found.
      image: (h, w, c) in [0, 1].

    Returns:
      X_a in [0, 1], float64, so that rounding to 16 bits sees no error of ours.
    """
    with jax.enable_x64(True):
        params, exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, image))
        perturbation = perturbation_at((image.shape[0], image.shape[1]))
        return np.asarray(perturbation.apply(params, exact))


def read_back(path: Path, *, image_size: int | None, resize: str) -> Float[np.ndarray, "h w 1"]:
    """A written image as a model sees it.

    Args:
      path: of a PNG or DICOM file.
      image_size: side in pixels, `None` for the file's own size.
      resize: how it is brought there.

    Returns:
      In [0, 1].
    """
    image = data.decode_dicom(path) if path.suffix == ".dcm" else data.decode(path)
    return data.to_float(data.fit(image, image_size=image_size, resize=resize))


def _judge(
    cell: Cell, split: jax.sharding.Sharding, files: Sequence[Path], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What all models say of a batch of written files."""
    size, resize = cell.settings["image_size"], cell.settings["resize"]
    images = np.stack([read_back(path, image_size=size, resize=resize) for path in files])
    whole = feed.filled(split, cell.batch_size, images)
    names = cell.source.class_names
    labels = from_text([row["label"] for row in rows], names, multi_label=cell.multi_label)
    found = [
        {"file": row["file"], "written": f"{FOLDER}/{path.name}", "label": row["label"]}
        for row, path in zip(rows, files, strict=True)
    ]
    for target in cell.targets:
        prefix = cell.prefix(target)
        said = answers(target, whole, labels, names)
        for record, row, *answer in zip(found, rows, *said.values(), strict=True):
            clean = row[f"{prefix}clean_prediction"]
            record |= {
                f"{prefix}clean_prediction": clean,
                f"{prefix}native_prediction": answer[0],
                f"{prefix}native_score": float(answer[1]),
                f"{prefix}fooled": clean == row["label"] != answer[0],
            }
    return found


def _rate(found: list[dict[str, Any]], prefix: str) -> dict[str, Any]:
    correct = sum(row[f"{prefix}clean_prediction"] == row["label"] for row in found)
    fooled = sum(row[f"{prefix}fooled"] for row in found)
    low, high = metrics.wilson_interval(fooled, correct) if correct else (None, None)
    rate = fooled / correct if correct else None
    told = {"correct": correct, "fooled": fooled, "rate": rate, "low": low, "high": high}
    return told | {"by_class": _by_class(found, prefix)}


def _by_class(found: list[dict[str, Any]], prefix: str) -> dict[str, dict[str, int]]:
    """Of each true class how many were right when clean, and how many of these are fooled."""
    told: dict[str, dict[str, int]] = {}
    for row in found:
        if row[f"{prefix}clean_prediction"] == row["label"]:
            one = told.setdefault(row["label"], {"correct": 0, "fooled": 0})
            one["correct"] += 1
            one["fooled"] += int(row[f"{prefix}fooled"])
    return dict(sorted(told.items()))
