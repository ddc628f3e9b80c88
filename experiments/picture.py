"""The README's picture: one X-ray under smooth light that turns the classifier's answer.

    python -m experiments.picture --model CHECKPOINT --data chest_xray

The first X-ray of `--truth`, in the order of the test split, that the classifier gets right when
clean and wrong within a log-range. It goes to `experiments/results/attack.png`, its numbers beside
it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bfjax import attacks, metrics, storage
from bfjax.evaluation import gallery
from bfjax.field import legendre
from experiments.cases import Case, find, noted
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """One attack, from the X-ray to its difference."""

    max_log_range: float = 0.4
    """How uneven the light may be; 0.4 is what an uncorrected machine leaves."""
    degree: int = 4
    """Of the polynomial that the light is."""
    truth: str = "PNEUMONIA"
    """Class of the X-ray."""
    batch_size: int = 16
    """Images attacked at once."""


def main(config: Config) -> None:
    """Attacks until there is one, then draws."""
    loaded = load(config)
    names = loaded.record.class_names
    chosen = np.flatnonzero(loaded.labels == names.index(config.truth))
    of_class = loaded._replace(images=loaded.images[chosen], labels=loaded.labels[chosen])
    field = legendre(loaded.images.shape[1:3], degree=config.degree)
    attack = attacks.bounded_field(field, max_log_range=config.max_log_range)
    found, searched = find([attack], of_class, per_class=1, batch_size=config.batch_size)
    if not found:
        print(f"no {config.truth} is turned: no picture")
        return
    (case,) = found
    record = _record(case, names)
    log_field = field.log_field(jnp.asarray(case.results[0].params))
    drawn = gallery.Case(record, case.image, log_field, case.results[0].adversarial)
    figure = gallery.panels([drawn])
    with storage.replacing(RESULTS / "attack.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    results = noted(config, [loaded.record]) | {
        "record": record,
        "searched": searched,
        "log_range": float(metrics.log_range(log_field)),
        "slope": float(metrics.largest_slope(log_field)),
    }
    storage.write_json(RESULTS / "attack.json", results)


def _record(case: Case, names: tuple[str, ...]) -> dict[str, Any]:
    record: dict[str, Any] = {"file": "a test X-ray", "label": names[case.label]}
    for kind, logits in (("clean", case.clean), ("adversarial", case.results[0].logits)):
        record[f"{kind}_prediction"] = names[int(np.argmax(logits))]
        record[f"{kind}_score"] = float(jax.nn.softmax(logits)[case.label])
    return record


if __name__ == "__main__":
    main(tyro.cli(Config))
