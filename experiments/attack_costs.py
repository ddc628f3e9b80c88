"""What each attack costs: seconds and peak memory at batch 16, 224 × 224, on a trained classifier.

Repeat, on a machine that does nothing else, with

    python -m experiments.attack_costs --model CHECKPOINT --data chest_xray

Each attack runs in a process of its own, compiled by a first run and then timed; the table goes to
`experiments/results/attack_costs.md` (and .json). A step of a search costs what a step of BIM does,
or for the saliency map's second gradient somewhat more: searches are timed over few steps and said
so.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import tyro

from bfjax import attack, attacks, models, run_batch, storage
from bfjax.storage import environment
from experiments.cases import noted
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results"


def _minimal_bim() -> Any:
    def make(epsilon: Any) -> Any:
        return attacks.bim(epsilon=epsilon, step_size=epsilon / 6, early_stop=True)

    return attack.minimal(make, num_tries=1, num_bisections=2)


# name: (the attack, what of it was run)
ATTACKS: dict[str, tuple[Callable[[], Any], str]] = {
    "bias field (Eq. 4-7)": (lambda: attacks.paper((224, 224)), "10 steps"),
    "BIM": (attacks.bim, "10 steps"),
    "BIM, log domain (Eq. 3)": (lambda: attacks.bim(domain="log"), "10 steps"),
    "FGSM": (attacks.fgsm, "1 step"),
    "PGD": (attacks.pgd, "10 steps"),
    "MI-FGSM": (attacks.mi_fgsm, "10 steps"),
    "DI-FGSM": (attacks.di_fgsm, "10 steps"),
    "TI-MI-FGSM": (attacks.ti_mi_fgsm, "10 steps"),
    "minimal BIM": (_minimal_bim, "30 of up to 400 steps"),
    "C&W L2": (
        functools.partial(
            attacks.carlini_wagner_l2, binary_search_steps=1, max_steps=10, abort_early=False
        ),
        "10 of up to 5 x 1000 steps",
    ),
    "saliency map, darken": (
        functools.partial(attacks.saliency_map, variant="darken", max_steps=10, theta=0.001),
        "10 of up to 2000 steps",
    ),
    "saliency map, pair": (
        functools.partial(attacks.saliency_map, variant="pair", max_steps=10, theta=0.001),
        "10 of up to 2000 steps",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """Seconds and peak memory of each attack."""

    batch_size: int = 16
    """Images attacked at once."""
    repetitions: int = 5
    """Timed runs of each attack."""
    only: str = ""
    """Run this one attack in this process, and print its figures as JSON."""


def main(config: Config) -> None:
    """Measures every attack, each in a process of its own."""
    if config.only:
        print(json.dumps(measure(config)))
        return
    rows = {}
    for name in ("", *ATTACKS):
        command = [sys.executable, "-m", "experiments.attack_costs", "--only", name or "nothing"]
        options = ["--model", str(config.model), "--data", config.data]
        options += ["--batch-size", str(config.batch_size)]
        options += ["--repetitions", str(config.repetitions), "--seed", str(config.seed)]
        run = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
        rows[name or "nothing"] = json.loads(run.stdout.splitlines()[-1])
        print(name or "nothing", rows[name or "nothing"], flush=True)
    floor = rows.pop("nothing")["peak_mib"]
    record = models.load_config(config.model)
    lines = [
        f"Batch of {config.batch_size}, 224 x 224, {record.architecture}, "
        f"{environment()['device']}; median of {config.repetitions} runs. Memory: the largest "
        "resident size of the process, less the "
        f"{floor:.0f} MiB of one that only predicts.",
        "",
        "| attack | what was run | seconds | memory in MiB |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        more = max(row["peak_mib"] - floor, 0)
        lines.append(f"| {name} | {ATTACKS[name][1]} | {row['seconds']:.2f} | {more:.0f} |")
    with storage.replacing(RESULTS / "attack_costs.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    results = noted(config, [record]) | {"rows": rows, "predict_only_mib": floor}
    storage.write_json(RESULTS / "attack_costs.json", results)


def measure(config: Config) -> dict[str, Any]:
    """The seconds of one attack, and the process's largest resident size.

    Args:
      config: `only` names the attack; any other name only predicts.

    Returns:
      seconds (median), all of them, peak_mib.
    """
    inputs = load(dataclasses.replace(config, num_images=config.batch_size))
    predict, images, labels = inputs.predict, inputs.images, inputs.labels
    key = jax.random.key(0)
    made = ATTACKS[config.only][0]() if config.only in ATTACKS else None

    def once() -> None:
        if made is None:
            jax.block_until_ready(jax.jit(jax.vmap(predict))(images))
        else:
            jax.block_until_ready(run_batch(made, predict, images, labels, key=key))

    once()
    seconds = []
    for _ in range(config.repetitions):
        started = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(seconds), "all_seconds": seconds, "peak_mib": peak}


if __name__ == "__main__":
    main(tyro.cli(Config))
