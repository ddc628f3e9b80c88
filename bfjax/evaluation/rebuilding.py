"""Makes attacked images again, bit for bit, from the parameters that their shards store."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pyarrow as pa

from bfjax import data, progress, storage
from bfjax.evaluation.cells import Cell
from bfjax.types import Attack, Search


@jax.jit
def perturbed(attack, params, image):
    """(B̂, X_a) of one image: the one program that makes the image judged and the image rebuilt.

    In a batch, or fused with the classifier, XLA may round differently.

    Args:
      attack: with a perturbation, on one device.
      params: of one image.
      image: (h, w, c).

    Returns:
      The log field (h, w), or `None` where the attack has none, and the image (h, w, c).
    """
    field = attack.perturbation.log_field
    return None if field is None else field(params), attack.perturbation.apply(params, image)


@jax.jit
def unclipped(attack, params, image):
    """What an attack would make of one image if no clip bound it.

    Args:
      attack: with a perturbation, on one device.
      params: of one image.
      image: (h, w, c).

    Returns:
      The image (h, w, c), in any range, or `None` where that has no meaning.
    """
    made = attack.perturbation.unclipped
    return None if made is None else made(params, image)


def rebuild(
    attack: Attack | Search, source: data.Source, table: pa.Table, row: int
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """One attacked image again, bit for bit, from the parameters that its run stored.

    Args:
      attack: the attack of the run.
      source: the images of the run.
      table: its shards.
      row: which image.

    Returns:
      The clean image (h, w, c), its log field (h, w) or `None` where the attack has none, the
      adversarial image (h, w, c).

    Raises:
      ValueError: the table holds no parameters, or those of another attack.
    """
    image = jnp.asarray(data.to_float(source[row]["image"]))
    log_field, adversarial = rebuilt(attack, image, table, row)
    return image, log_field, adversarial


def rebuilt(
    attack: Attack | Search, image: Any, table: pa.Table, row: int
) -> tuple[jax.Array | None, jax.Array]:
    """(B̂, X_a) of one image, from a row of its shards.

    Args:
      attack: the attack of the run.
      image: the clean image, (h, w, c).
      table: the shards.
      row: which image.

    Returns:
      The log field (h, w), or `None` where the attack has none, and the image (h, w, c).

    Raises:
      ValueError: the table holds no parameters, or those of another attack.
    """
    image = jnp.asarray(image)
    if not isinstance(attack, Attack):  # a search stores its images, as they come
        stored = storage.read_params(table, row, {"adversarial": image})
        return None, jnp.asarray(stored["adversarial"])
    like = jax.eval_shape(lambda x: attack.perturbation.init(x, jax.random.key(0)), image)
    return perturbed(attack, storage.read_params(table, row, like), image)


def draw_cases(cell: Cell, count: int) -> bool:
    """Draws some images of a finished attack, made again from their parameters, into its gallery/.

    Args:
      cell: all of whose shards are there.
      count: how many, chosen by `choose`.

    Returns:
      Whether any was still to be drawn. Of results whose images nobody noted none is.
    """
    from bfjax.evaluation import gallery  # Matplotlib, for those alone who draw

    if "images" not in storage.read_json(cell.out / "settings.json"):
        return False
    table = storage.read_shards(cell.out / "shards")
    rows = storage.without_params(table).to_pylist()
    folder = cell.out / "gallery"
    chosen = gallery.choose(rows, count)
    left = [i for i in chosen if not gallery.path_of(folder, i, rows[i]["file"]).exists()]
    with progress.bar() as bar:
        for row in bar.track(left, description="drawing"):
            image, log_field, adversarial = rebuild(cell.attack, cell.source, table, row)
            if log_field is not None:  # which a bias field has
                encoding = cell.settings.get("encoding", "linear")
                case = gallery.Case(rows[row], image, log_field, adversarial, encoding)
                gallery.draw(folder, row, case)
    return bool(left)
