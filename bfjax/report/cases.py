"""The cases of a page: single attacked images, made again from the parameters of their attack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from bfjax import storage
from bfjax.evaluation import gallery, load_run
from bfjax.evaluation.maps import map_of
from bfjax.report import pictures
from bfjax.report.loading import Run


class Case(NamedTuple):
    """One attacked image.

    Attributes:
      name: a file name for its picture.
      facts: what the page says of it, as JSON can hold it.
      picture: its panels, one WebP file.
    """

    name: str
    facts: dict[str, Any]
    picture: bytes


def choose(runs: list[Run], max_cases: int | None) -> list[list[int]]:
    """Which cases are drawn: all, or as many of each run, chosen as by `evaluation.gallery.choose`.

    A run whose attack parameters were not stored has none.

    Args:
      runs: the runs.
      max_cases: how many in all; `None` for every one.

    Returns:
      The rows of each run, in order.

    Raises:
      ValueError: for a negative number.
    """
    if max_cases is not None and max_cases < 0:
        raise ValueError(f"--max-cases must not be negative, got {max_cases}")
    if max_cases == 0:
        return [[] for _ in runs]
    known = [_outcomes(run) for run in runs]
    if max_cases is None:
        return [list(range(len(rows))) for rows in known]
    drawable = [i for i, rows in enumerate(known) if rows]
    chosen: list[list[int]] = [[] for _ in runs]
    for place, i in enumerate(drawable):
        share = max_cases // len(drawable) + (place < max_cases % len(drawable))
        chosen[i] = sorted(gallery.choose(known[i], share)) if share else []
    return chosen


def _outcomes(run: Run) -> list[dict[str, str]]:
    table = run.read()
    if not any(name.startswith(storage.PARAMS) for name in table.column_names):
        return []
    return table.select(["label", "clean_prediction", "adversarial_prediction"]).to_pylist()


def draw(number: int, run: Run, rows: list[int], *, where: str | None) -> Iterator[Case]:
    """Makes the attacked images of a run again, one after the other.

    Args:
      number: of the run.
      run: the run.
      rows: which images.
      where: the data set; `None` for that of the settings.

    Yields:
      The cases.

    Raises:
      ValueError: the data are not those that were attacked.
      FileNotFoundError: they are not there.
    """
    if not rows:
        return
    whole = load_run(run.folder, settings=run.settings, where=where)
    for row in rows:
        made, known = _Made(*whole.rebuild(row)), whole.rows[row]
        sensitive = map_of(run.folder / "explain" / "shards", row)
        letters, panels = zip(*_panels(made, sensitive), strict=True)
        facts = {
            "run": number,
            "file": known["file"],
            "label": known["label"],
            "judged": [list(judgement[1:]) for judgement in run.judgements(known)],
            "change": known["max_change"],
            "mean": known["mean_change"],
            "field": made.range,
            "reach": made.reach,
            "span": made.span,
            "size": pictures.size(made.image.shape),
            "panels": "".join(letters),
        }
        yield Case(f"{number:02d}-{row:07d}.webp", facts, pictures.join(panels))


class _Made(NamedTuple):
    image: np.ndarray
    log_field: np.ndarray | None
    adversarial: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        return np.asarray(self.adversarial, np.float64) - self.image

    @property
    def range(self) -> list[float] | None:
        """The smallest and the largest B."""
        if self.log_field is None:
            return None
        return [float(np.exp(np.float64(end(self.log_field)))) for end in (np.min, np.max)]

    @property
    def reach(self) -> float:
        """The colours of B run from 1 / reach to reach, as in `bfjax.evaluation.gallery`."""
        largest = 0.0 if self.log_field is None else float(np.abs(self.log_field).max())
        return float(np.exp(np.clip(largest, np.log(1.02), np.log(2))))

    @property
    def span(self) -> float:
        """The colours of the difference run from −span to span."""
        return max(float(np.abs(self.difference.mean(-1)).max()), 1e-3)


def _panels(
    made: _Made, sensitive: Float[np.ndarray, "h w"] | None
) -> Iterator[tuple[str, pictures.Panel]]:
    yield "c", pictures.grey(made.image)
    yield "a", pictures.grey(made.adversarial)
    if made.log_field is not None:
        log_field = np.asarray(made.log_field, np.float64)
        yield "f", pictures.diverging(log_field, span=float(np.log(made.reach)))
    yield "d", pictures.diverging(made.difference.mean(-1), span=made.span)
    if sensitive is not None:
        yield "s", pictures.blended(sensitive, made.image)
