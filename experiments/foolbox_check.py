"""Our FGSM, BIM and C&W against foolbox 3.3.4 on a trained classifier and real X-rays.

Repeat with (foolbox is in the `[test]` extra)

    python -m experiments.foolbox_check --model CHECKPOINT --data chest_xray

FGSM and BIM are compared pixel by pixel, with foolbox's own cross-entropy and with ours in both
(ours does not cancel where the classifier is as good as certain, so signs differ there); C&W by
success and mean L2. The figures go to `experiments/results/foolbox_check.json`.
"""

from __future__ import annotations

import dataclasses
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bfjax import attacks, run_batch, storage
from bfjax.attack import cross_entropy
from bfjax.storage import environment
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results" / "foolbox_check.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """FGSM, BIM and C&W, ours and foolbox's."""

    num_images: int | None = 32
    """X-rays, drawn by --seed from the test split."""
    cw_steps: int = 100
    """Steps of each of C&W's three searches."""


def main(config: Config) -> None:
    """Compares, prints and writes."""
    record, predict, images, labels, _ = load(config)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    model, foolbox = _foolbox_model(predict)
    criterion = foolbox.criteria.Misclassification(labels)
    results: dict[str, Any] = {}
    for name, ours, theirs in (
        ("fgsm", attacks.fgsm(), foolbox.attacks.FGSM()),
        (
            "bim",
            attacks.bim(),
            foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=10),
        ),
    ):
        found = np.asarray(run_batch(ours, predict, images, labels).adversarial)
        for loss in ("its own loss", "our loss"):
            if loss == "our loss":
                theirs.get_loss_fn = _our_loss
            expected = np.asarray(theirs.run(model, images, criterion, epsilon=0.1))
            differ = np.abs(found - expected) > 1e-6
            results[f"{name}, foolbox with {loss}"] = {
                "share_of_pixels_that_differ": float(differ.mean()),
                "images_that_differ_in_more_than_0.1_percent": int(
                    (differ.mean((1, 2, 3)) > 1e-3).sum()
                ),
            }
    options = {"binary_search_steps": 3, "initial_const": 1e-2}
    ours = attacks.carlini_wagner_l2(
        **options, max_steps=config.cw_steps, step_size=1e-2, abort_early=False
    )
    theirs = foolbox.attacks.L2CarliniWagnerAttack(
        **options, steps=config.cw_steps, stepsize=1e-2, abort_early=False
    )
    found = [
        run_batch(ours, predict, images[at : at + 16], labels[at : at + 16]).adversarial
        for at in range(0, len(images), 16)
    ]
    both = [np.concatenate(found), np.asarray(theirs.run(model, images, criterion))]
    wrong = [np.asarray(model(x).argmax(-1) != labels) for x in both]
    sizes = [np.linalg.norm((x - np.asarray(images)).reshape(len(x), -1), axis=1) for x in both]
    fooled = wrong[0] & wrong[1]
    results["carlini_wagner_l2"] = {
        "success": [int(w.sum()) for w in wrong],
        "same_images": bool((wrong[0] == wrong[1]).all()),
        "mean_l2": [float(s[fooled].mean()) for s in sizes],
        "ratio": float(sizes[0][fooled].mean() / sizes[1][fooled].mean()),
    }
    for name, row in results.items():
        print(name, row)
    summary = {
        "settings": dataclasses.asdict(config) | {"model": record.architecture, "data": "test"},
        "checkpoint_sha256": record.sha256,
        "foolbox": version("foolbox"),
        "results": results,
        "run": environment(),
    }
    storage.write_json(RESULTS, summary)


def _our_loss(model: Any, labels: Any) -> Any:
    import eagerpy

    def loss(inputs: Any) -> Any:
        logits = eagerpy.astensor(model(inputs)).raw
        return eagerpy.astensor(jax.vmap(cross_entropy)(logits, labels.raw).sum())

    return loss


def _foolbox_model(predict: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports scipy.ndimage.filters
        import foolbox
    from eagerpy import JAXTensor

    gradient: Any = JAXTensor._value_and_grad_fn

    def jitted(self, function, has_aux=False):  # the same arithmetic, compiled
        return jax.jit(gradient(self, function, has_aux))

    setattr(JAXTensor, "_value_and_grad_fn", jitted)  # noqa: B010  its type has other names
    return foolbox.JAXModel(jax.jit(jax.vmap(predict)), bounds=(0, 1)), foolbox


if __name__ == "__main__":
    main(tyro.cli(Config))
