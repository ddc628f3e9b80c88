"""`bfjax demo`: a whole run on phantoms, from training to pictures, in a few minutes."""

from __future__ import annotations

from rich.console import Console

from bfjax import evaluate, train
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
    console.print(f"training a small network on {PHANTOMS} chest phantoms", highlight=False)
    metrics = train.train(training)
    print(f"classifier: {train.describe(metrics)}")
    console.print("attacking the test phantoms with adversarial bias fields")
    evaluate.attack(
        AttackConfig(
            model=str(training.out),
            data="phantom",
            out=config.out / "attack",
            batch_size=32,
            measure=False,
            seed=config.seed,
        )
    )
