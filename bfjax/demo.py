"""`bfjax demo`: a whole run on phantoms, from training to pictures, in a few minutes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from rich.console import Console

from bfjax import data, estimate, evaluate, models, train
from bfjax.config import AttackConfig, DemoConfig, TrainConfig

# Chosen for two cores and three minutes.
SIZE, PHANTOMS, EPOCHS = 96, 1024, 8


def main(config: DemoConfig) -> None:
    """The command `bfjax demo`: trains on phantoms, attacks the test split, draws, reports."""
    console = Console(stderr=True)
    training = TrainConfig(
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
    attacking = AttackConfig(
        model=str(training.out),
        data="phantom",
        out=config.out / "attack",
        batch_size=32,
        measure=False,
        seed=config.seed,
    )
    if config.dry_run:
        estimate.show(_estimates(training, attacking))
        return
    console.print(f"training a small network on {PHANTOMS} chest phantoms", highlight=False)
    metrics = train.train(training)
    print(f"classifier: {train.describe(metrics)}")
    console.print("attacking the test phantoms with adversarial bias fields")
    evaluate.attack(attacking)


def _estimates(training: TrainConfig, attacking: AttackConfig) -> list[estimate.Estimate]:
    """Training and attack, the latter on an untrained network, whose steps take as long."""
    source = data.load("phantom", "train", image_size=SIZE, num_examples=PHANTOMS)
    with tempfile.TemporaryDirectory() as folder:
        metadata = {"class_names": list(source.class_names), "image_size": SIZE}
        models.save(models.build("convnet", num_classes=2), Path(folder), metadata=metadata)
        untrained = dataclasses.replace(attacking, model=folder)
        attack = estimate.of_cell(evaluate.attack_cell(untrained))
    return [estimate.of_training(training, source), attack]
