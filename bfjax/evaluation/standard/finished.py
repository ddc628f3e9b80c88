"""Finished audits, opened again: what they amount to, and the light that turned each image."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bfjax import data, storage
from bfjax.evaluation.classes import answered, of_classes
from bfjax.evaluation.finished import as_listed, fingerprint_of, open_source, same_image
from bfjax.evaluation.identity import IMAGES
from bfjax.evaluation.schemas import read_results
from bfjax.evaluation.standard.summary import SCHEMA
from bfjax.evaluation.standard.threshold import lowered
from bfjax.evaluation.standard.universal import one_light
from bfjax.evaluation.standard.worst import of_table, with_one_light
from bfjax.field import legendre
from bfjax.robustness import DEGREE, TIERS
from bfjax.types import LinearField

UNEVEN = "fixed"
"""The row of light that is uneven alone, whose params are coefficients of `legendre`."""
NODES = DEGREE + 1
"""Places along each axis at which a polynomial of that degree is known."""
_ONE_LIGHT = "universal"  # the row of one light for all, where it was tested
_NEEDED = ("model", "settings", "images", "clean", "rows", "machine", "run")
_OF_A_ROW = ("tiers", "curve", "smallest", "takes", "gradients", "flags")
_MEANINGS = (
    "no more than a calibrated machine leaves",
    "no more than a misused machine makes",
    "no more than an uncorrected machine makes",
    "more than an uncorrected machine makes, up to a factor of two",
)


class Answer(NamedTuple):
    """What a model said of an image.

    Attributes:
      name: the class.
      probability: that it gave to the true class.
    """

    name: str
    probability: float


class Light(NamedTuple):
    """An image that is right without light, and the least uneven light found to turn it.

    Attributes:
      row: of the image.
      file: its name.
      label: its true class.
      log_range: the smallest log-range at which it was found to be turned.
      params: (n,), c of that light.
      clean: the answer without light.
      turned: that under this light; `None` where it was not stored.
      tier: the smallest of the tested ranges that allows it.
      worst: the answer under the worst light found within that.
    """

    row: int
    file: str
    label: str
    log_range: float
    params: Float[np.ndarray, " n"]
    clean: Answer
    turned: Answer | None
    tier: float
    worst: Answer


class Images(NamedTuple):
    """The images of an audit.

    Attributes:
      source: where they lie now.
      digests: of those that were audited.
    """

    source: data.Source
    digests: list[str]

    def read(self, row: int) -> Float[np.ndarray, "h w c"]:
        """One image.

        Args:
          row: which.

        Returns:
          Grey values in [0, 1].

        Raises:
          ValueError: it is not the one that was audited.
          OSError: it cannot be read.
        """
        same_image(self.source, row, self.digests[row])
        return data.to_float(self.source[row]["image"])


def read_audit(path: Path) -> dict[str, Any]:
    """What an audit amounts to.

    Args:
      path: its audit.json.

    Returns:
      Its entries.

    Raises:
      ValueError: it is broken, or of a newer schema, naming it.
    """
    audit = read_results(path, newest=SCHEMA, needed=_NEEDED, command="bfjax audit")
    for row, found in audit["rows"].items():
        for name in _OF_A_ROW:
            if name not in found:
                raise ValueError(
                    f"{path}, schema {audit['schema']}, has no rows.{row}.{name}: it is not of "
                    "`bfjax audit`"
                )
    return audit


def turning_lights(folder: Path, audit: dict[str, Any]) -> list[Light]:
    """The images that are right without light and were turned, the nearest to breaking first.

    Args:
      folder: of the audit.
      audit: its entries.

    Returns:
      Each with its own light; none where uneven light alone was not tested.

    Raises:
      ValueError: the shards are not there or cannot be read, or are of other images.
    """
    settings, shards = audit["settings"], folder / "shards" / UNEVEN
    if UNEVEN not in audit["rows"]:
        return []
    if not any(shards.glob("*.parquet")):
        raise ValueError(f"{shards} holds no shards, which have the light that turned each image")
    table, known = storage.read_shards(shards), _fingerprint(folder, settings)
    if table["file"].to_pylist() != known.names:
        raise ValueError(f"{shards} does not hold the images of {folder / IMAGES}")
    ranges = np.asarray(settings["ranges"])
    truth = np.asarray([settings["class_names"].index(label) for label in known.labels])
    lit = of_table(table, len(ranges))
    if settings["exposures"][0] == UNEVEN and (folder / "shards" / _ONE_LIGHT).is_dir():
        one = one_light(storage.read_shards(folder / "shards" / _ONE_LIGHT))
        lit = with_one_light(truth, lit, one)
    chosen = np.flatnonzero((lit.smallest > 0) & np.isfinite(lit.smallest))
    chosen = chosen[np.argsort(lit.smallest[chosen], kind="stable")].tolist()
    # a light may exceed its range by rounding
    tiers = np.searchsorted(ranges * (1 + 1e-5), lit.smallest).clip(max=len(ranges) - 1)
    clean = table["clean"].to_pylist()

    def said(row: int, logits: Any) -> Answer:
        return _answer(settings, int(truth[row]), logits)

    return [
        Light(
            row,
            known.names[row],
            known.labels[row],
            float(lit.smallest[row]),
            lit.params[row],
            said(row, clean[row]),
            None if np.isnan(lit.turned[row]).any() else said(row, lit.turned[row]),
            float(ranges[tiers[row]]),
            said(row, lit.logits[row, tiers[row]]),
        )
        for row in chosen
    ]


def _answer(settings: dict[str, Any], label: int, logits: Any) -> Answer:
    """Of logits that were raised so that they are right at the threshold."""
    names, threshold = settings["class_names"], settings["threshold"]
    raised = np.asarray(logits, np.float64)[None]
    number = int(of_classes(raised).argmax())
    _, probability = answered(lowered(raised, threshold), np.array([label]))
    name = names[number] if number < len(names) else f"class {number}"
    return Answer(name, float(probability[0]))


def audited_images(folder: Path, audit: dict[str, Any], *, where: str | None = None) -> Images:
    """Opens the images of an audit.

    Args:
      folder: of the audit.
      audit: its entries.
      where: the images; `None` for where they lay when they were audited.

    Returns:
      The images.

    Raises:
      FileNotFoundError: they are not there.
      ValueError: others are.
    """
    settings = audit["settings"]
    known = _fingerprint(folder, settings)
    source = as_listed(open_source(settings, where), known.names, settings, folder)
    return Images(source, known.digests)


def _fingerprint(folder: Path, settings: dict[str, Any]) -> data.Fingerprint:
    known = fingerprint_of(folder, settings)
    if known is None:
        raise ValueError(f"{folder / IMAGES} is not there, which says what the audit is of")
    return known


def log_field_at_nodes(
    params: Float[np.ndarray, " n"], image_shape: tuple[int, ...]
) -> Float[np.ndarray, "k k"]:
    """A light at a few places, from corner to corner, which determine it everywhere.

    It is of degree 4 in x and in y: five values along each axis tell it by Lagrange's formula.

    Args:
      params: c of a `Light`.
      image_shape: (h, w, c) of the image.

    Returns:
      (5, 5), the log field.

    Example:
      >>> nodes = log_field_at_nodes(np.eye(14, dtype=np.float32)[0], (32, 32, 1))
      >>> [round(float(value), 2) for value in nodes[:, 0]]
      [-1.68, -0.84, 0.0, 0.84, 1.68]
    """
    return np.asarray(_at_nodes(tuple(image_shape[:2])).log_field(jnp.asarray(params)))


@functools.lru_cache(maxsize=8)
def _at_nodes(shape: tuple[int, int]) -> LinearField:
    return legendre((NODES, NODES), degree=DEGREE, orthonormal_on=shape)


def range_in_words(log_range: float) -> str:
    """Which machine makes light so uneven.

    Args:
      log_range: of the light.

    Returns:
      Words, after `bfjax.robustness.TIERS`.

    Example:
      >>> range_in_words(0.15)
      'no more than a misused machine makes'
    """
    for most, meaning in zip(TIERS.values(), _MEANINGS, strict=True):
        if log_range <= most * (1 + 1e-5):
            return meaning
    return "more than a factor of two"
