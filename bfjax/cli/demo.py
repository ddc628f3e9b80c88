"""`bfjax demo`: a whole run on phantoms, from training to pictures, in a few minutes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from rich.console import Console

from bfjax import data, estimate, evaluation, models, training
from bfjax.cli.config import DemoConfig
from bfjax.estimate import Estimate
from bfjax.evaluation import AttackConfig, standard
from bfjax.evaluation.standard import AuditConfig
from bfjax.training import TrainConfig

# Chosen for two cores and three minutes.
SIZE, PHANTOMS, EPOCHS = 80, 896, 7
LOG_RANGE, AUDITED = 0.4, 32  # what an uncorrected X-ray machine leaves; phantoms


def run_demo(config: DemoConfig) -> None:
    """The command `bfjax demo`: trains on phantoms, attacks the test split, draws, audits."""
    console = Console(stderr=True)
    to_train = TrainConfig(
        data="phantom",
        out=config.out / "model",
        model="convnet",
        image_size=SIZE,
        num_examples=PHANTOMS,
        epochs=EPOCHS,
        batch_size=16,
        learning_rate=3e-3,
        seed=config.seed,
    )
    to_attack = AttackConfig(
        model=str(to_train.out),
        data="phantom",
        out=config.out / "attack",
        batch_size=32,
        terms="total",  # without those that are linear in x or y it finds little within a bound
        max_log_range=LOG_RANGE,
        measure=False,
        seed=config.seed,
    )
    to_audit = AuditConfig(
        model=(str(to_train.out),),
        data="phantom",
        out=config.out / "audit",
        num_images=AUDITED,
        batch_size=32,
        ranges=(0.1, 0.2, LOG_RANGE),
        exposures=("fixed",),
        num_random=8,
        universal_steps=0,
        seed=config.seed,
    )
    if config.dry_run:
        estimate.show(_estimates(to_train, to_attack, to_audit))
        return
    finished = training.is_finished(to_train.out)
    if not finished:
        console.print(f"training a small network on {PHANTOMS} chest phantoms", highlight=False)
    metrics = training.train_classifier(to_train)
    if finished:
        print(f"{to_train.out}: finished before, nothing was run")
    print(f"classifier: {evaluation.describe(metrics)}")
    console.print(f"attacking the test phantoms with bias fields of log-range {LOG_RANGE:g}")
    evaluation.attack(to_attack)
    console.print(f"auditing the classifier on {AUDITED} of them", highlight=False)
    standard.audit(to_audit)


def _estimates(
    to_train: TrainConfig, to_attack: AttackConfig, to_audit: AuditConfig
) -> list[Estimate]:
    """The latter two on an untrained network, whose steps take as long."""
    source = data.load("phantom", "train", image_size=SIZE, num_examples=PHANTOMS)
    with tempfile.TemporaryDirectory() as folder:
        metadata = {"class_names": list(source.class_names), "image_size": SIZE}
        models.save(models.build("convnet", num_classes=2), Path(folder), metadata=metadata)
        untrained = dataclasses.replace(to_attack, model=folder)
        attack = evaluation.of_cell(evaluation.attack_cell(untrained))
        audits = standard.of_audits(dataclasses.replace(to_audit, model=(folder,)))
    return [training.of_training(*training.make_plan(to_train, source)), attack, *audits]
