"""The cases of a page: images that light turned, with that light, nearest to breaking first."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from bfjax.evaluation.standard import (
    Images,
    Light,
    audited_images,
    log_field_at_nodes,
    range_in_words,
    turning_lights,
)
from bfjax.report import pictures
from bfjax.report.standard.loading import Audited


class Shown(NamedTuple):
    """The cases of a page.

    Attributes:
      images: data URLs, each once.
      facts: what the page says of each case, as JSON can hold it.
    """

    images: list[str]
    facts: list[dict[str, Any]]


def order(audits: Sequence[Audited], max_cases: int | None) -> list[tuple[int, Light]]:
    """The cases that could be shown: the nearest of each audit, then the next of each.

    Args:
      audits: whose.
      max_cases: how many in all; `None` for every one.

    Returns:
      (which audit, light) of each.

    Raises:
      ValueError: for a negative number, and as `turning_lights`.
    """
    if max_cases is not None and max_cases < 0:
        raise ValueError(f"--max-cases must not be negative, got {max_cases}")
    if max_cases == 0:
        return []
    lights = [turning_lights(one.folder, one.audit) if one.has_shards else [] for one in audits]
    places = sorted((k, a) for a, found in enumerate(lights) for k in range(len(found)))
    return [(a, lights[a][k]) for k, a in places[:max_cases]]


def gather(
    audits: Sequence[Audited],
    wanted: Sequence[tuple[int, Light]],
    *,
    where: str | None = None,
    limit: int,
    on_case: Callable[[], object] = lambda: None,
) -> Shown:
    """Brings the images of cases together, as many as there is room for.

    Args:
      audits: whose.
      wanted: from `order`.
      where: the images; `None` for where they lay when they were audited.
      limit: how many bytes of the page they may take.
      on_case: called after each.

    Returns:
      The cases, in the order given.

    Raises:
      FileNotFoundError: the images are not there.
      ValueError: others are.
    """
    opened: dict[int, Images] = {}
    known: dict[Any, tuple[int, tuple[int, ...]]] = {}
    shown, size = Shown([], []), 0
    for number, light in wanted:
        folder, _, audit = audits[number]
        if number not in opened:
            opened[number] = audited_images(folder, audit, where=where)
        images, settings = opened[number], audit["settings"]
        # several models may have been asked about one image
        key = images.digests[light.row], settings["image_size"], settings["resize"]
        link = None
        if key not in known:
            image = images.read(light.row)
            link, known[key] = _link(image), (len(shown.images), image.shape)
        place, shape = known[key]
        facts = {"audit": number, "image": place, **_facts(light, shape)}
        size += len(link or "") + len(json.dumps(facts))
        if size > limit:
            break
        shown.images.extend([] if link is None else [link])
        shown.facts.append(facts)
        on_case()
    return shown


def _facts(light: Light, shape: tuple[int, ...]) -> dict[str, Any]:
    nodes = log_field_at_nodes(light.params, shape).astype(np.float64)
    return {
        "file": light.file,
        "label": light.label,
        "range": light.log_range,
        "words": range_in_words(light.log_range),
        "nodes": nodes.round(7).ravel().tolist(),
        "clean": light.clean,
        "turned": light.turned,
        "tier": light.tier,
        "worst": light.worst,
    }


def _link(image: Float[np.ndarray, "h w 1"]) -> str:
    """An image as a PNG within the page, of 8 bits, which a canvas gives back unchanged."""
    grey = Image.fromarray(pictures.grey(image)[..., 0])
    if grey.size != (wanted := pictures.size(image.shape)):
        grey = grey.resize(wanted, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    grey.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
