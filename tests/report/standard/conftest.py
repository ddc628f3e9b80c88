"""Audits of functions that nobody asked: the summary is the real one, the answers are made up."""

import json
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import data, models, storage
from bfjax.evaluation.certified import runner as certified_runner
from bfjax.evaluation.certified import summary as certified_summary
from bfjax.evaluation.standard import runner, summary
from bfjax.evaluation.targets import Target
from bfjax.field import RadiographicParams, legendre
from bfjax.robustness import FLAGS

SIZE = 32
SMALLEST = (0.0, 0.3, 0.05, np.inf, 0.15, 0.4)
"""Of each image: wrong without light, turned at some range, or by no light that was found."""


class Made(NamedTuple):
    """What was made up of one audit."""

    folder: object
    params: np.ndarray
    smallest: np.ndarray


def answers(labels, wrong, sure=2.0):
    """Two logits an image: `sure` apart on the true class's side, or on the other's."""
    side = np.where((labels == 1) != wrong, 1.0, -1.0)
    return np.stack([-sure / 2 * side, sure / 2 * side], 1).astype(np.float32)


def lights(smallest, *, seed=0):
    """(n, 14): a light of just that log-range for each image."""
    field = legendre((SIZE, SIZE), degree=4)
    drawn = np.random.default_rng(seed).normal(size=(len(smallest), 14)).astype(np.float32)
    ranges = np.array([np.ptp(np.asarray(field.log_field(jnp.asarray(c)))) for c in drawn])
    size = np.where(np.isfinite(smallest), smallest, 0)
    return (drawn * (size / ranges)[:, None]).astype(np.float32)


def make_up(folder, name="one", smallest=SMALLEST, *, where=None, turned=False, rows=("fixed",),
            flags=(), universal=None, seed=0, **changed):  # fmt: skip
    """Writes what `bfjax audit` would of a model with such answers."""
    smallest = np.asarray(smallest)
    source = data.load(where or "phantom", "all" if where else "test", image_size=SIZE,
                       num_examples=len(smallest), seed=seed)  # fmt: skip
    known = data.fingerprint(source)
    settings = {
        "label": None, "num_images": len(smallest), "class_names": list(source.class_names),
        "image_size": SIZE, "resize": "squash", "split": "all" if where else "test",
        "batch_size": 4, "seed": seed, "encoding": "linear", "gamma": 0.29, "threshold": 0.5,
        "num_random": 2, "universal_steps": 0, "corrections": [], "sensitivity": None,
        "data": where or "phantom", "images": known.sha256,
        "ranges": [0.1, 0.2, 0.4], "exposures": list(rows), "outputs": "logits",
        "model": {"sha256": "ab" * 32, "architecture": f"of:{name}", "parts": {}},
    } | changed  # fmt: skip
    out, truth = folder / name, np.asarray(source.labels, np.int32)
    known.write(out / "images.parquet")
    storage.write_json(out / "settings.json", settings)
    raised = np.array([0, np.log((1 - settings["threshold"]) / settings["threshold"])], np.float32)
    params, ranges = lights(smallest), np.array(settings["ranges"])
    worst = [answers(truth, smallest <= rho, 1 + t) + raised for t, rho in enumerate(ranges)]
    columns = {
        "index": np.arange(len(truth)),
        "file": list(source.names),
        "clean": list(answers(truth, smallest == 0) + raised),
        "worst": list(np.stack(worst, 1).reshape(len(truth), -1)),
        "random_right": list(np.full((len(truth), len(ranges)), 0.75)),
        "smallest": smallest,
        "gradients": np.full(len(truth), 70.0),
    } | {f"flag_{flag}": np.full(len(truth), flag in flags) for flag in FLAGS}
    if turned:
        columns["turned"] = list(answers(truth, smallest < np.inf, 0.01) + raised)
    for row in rows:
        number = {"fixed": params, "alone": params[:, :1], "free": np.pad(params, ((0, 0), (1, 0)))}
        storage.write_shard(out / "shards" / row / "0000000.parquet", columns, number[row])
    machine = {"index": np.arange(len(truth)), "file": list(source.names),
               "worst": list(answers(truth, smallest <= 0.2))}  # fmt: skip
    set_ups = RadiographicParams(*np.zeros((7, len(truth)), np.float32))
    storage.write_shard(out / "shards" / "machine" / "0000000.parquet", machine, set_ups)
    run = runner.AuditRun(
        target=Target(name, np.sum, models.Checkpoint(f"of:{name}", {}, "ab" * 32)),
        source=source, truth=truth, fingerprint=known, out=out, settings=settings, batch_size=4,
    )  # fmt: skip
    found = summary.summarize(run)
    for tier in found["rows"][rows[0]]["tiers"] if universal else ():
        tier["universal_accuracy"] = universal
    storage.write_json(out / "audit.json", found)
    return Made(out, params, smallest)


def make_proven(folder, name="one", radii=(0.12, 0.06, 0.0, 0.12), *, wrong=(), **changed):
    """Writes what `bfjax certify` would; a radius of 0 abstains, half of each is safe."""
    radii = np.asarray(radii)
    source = data.load("phantom", "test", image_size=SIZE, num_examples=len(radii))
    known = data.fingerprint(source)
    truth = np.asarray(source.labels, np.int32)
    settings = {
        "class_names": list(source.class_names), "image_size": SIZE, "split": "test", "sigma": 0.05,
        "alpha": 0.001, "headroom": 1.0, "num_samples": 1000, "num_guess": 100, "seed": 0,
        "encoding": "linear", "gamma": 0.29, "data": "phantom", "images": known.sha256,
        "model": {"sha256": "ab" * 32, "architecture": f"of:{name}", "parts": {}},
    } | changed  # fmt: skip
    out = folder / name
    told = np.where(np.isin(np.arange(len(radii)), wrong), 1 - truth, truth)
    columns = {
        "index": np.arange(len(truth)),
        "file": list(source.names),
        "label": truth,
        "clean": list(answers(truth, np.zeros(len(truth), bool))),
        "certified": np.where(radii > 0, told, -1),
        "radius": radii,
        "safe_radius": radii / 2,
        "log_range": 2 * radii,
        "lower_bound": np.full(len(truth), 0.9),
        "counts": list(np.tile([500, 500], (len(truth), 1))),
    }
    storage.write_shard(out / "shards" / "0000000.parquet", columns, {})
    run = certified_runner.CertifyRun(
        target=Target(name, np.sum, models.Checkpoint(f"of:{name}", {}, "ab" * 32)),
        source=source, truth=truth, fingerprint=known, out=out, settings=settings, batch_size=4,
    )  # fmt: skip
    storage.write_json(
        out / "certificates.json", certified_summary.summarize(run, [0.02, 0.05, 0.1])
    )
    return out


def edit(folder, **entries):
    """Changes entries of an audit.json."""
    path = folder / "audit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    """Three models on the same images, one of which takes more than was tried."""
    folder = tmp_path_factory.mktemp("audits")
    make_up(folder / "first", "weak", (0.0, 0.02, 0.05, 0.1, 0.04, 0.03), flags=("gradient_free",))
    make_up(folder / "first", "strong", (0.0, *[np.inf] * 5), universal=0.6, rows=("fixed", "free"))
    make_up(folder / "deeper" / "second", "middling", turned=True)
    return folder
