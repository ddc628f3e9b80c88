"""White-box success of the bias field against the minimal degree D0, under three readings.

The paper leaves open what keeps its fields small. Three settings are compared, each for
D0 = 0, 1, 2, 3 on all 624 test X-rays: no penalty; λ_a = 0.1; and λ_a = 0.1 with X_a clipped to
X ± 0.1 (the paper's "max perturbation 0.1 relative to [0, 1]"). Repeat with

    python -m experiments.white_box --model CHECKPOINT --data chest_xray

The attacks go to `BFJAX_HOME/runs/white_box` and resume there; the summaries of all runs and a
table of them to `experiments/results/white_box`, each in a folder named after the checkpoint's;
table.md there has all networks side by side.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from bfjax import attacks, storage
from bfjax.evaluation import AttackConfig, attack_dataset
from bfjax.storage import home

RESULTS = Path(__file__).parent / "results" / "white_box"
SETTINGS: dict[str, dict[str, Any]] = {
    "no penalty": {"l1_coefficients": 0.0, "max_change": None},
    "λ_a = 0.1": {"l1_coefficients": 0.1, "max_change": None},
    "λ_a = 0.1, X_a within X ± 0.1": {"l1_coefficients": 0.1, "max_change": 0.1},
}
MIN_DEGREES = (0, 1, 2, 3)
# PAPER: Table 2, M→M with a 16 × 16 grid.
PAPER = {0: 36.04, 1: 32.79, 2: 26.85, 3: 15.32}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """White-box success against D0."""

    model: Path
    """Folder of the checkpoint."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    batch_size: int = 16
    """Images attacked at once."""


def main(config: Config) -> None:
    """Runs what is missing, then writes the table."""
    table: dict[tuple[str, int], dict[str, Any]] = {}
    model = config.model.resolve().name
    for min_degree in MIN_DEGREES:
        for number, (name, options) in enumerate(SETTINGS.items()):
            run = f"setting{number}-D0={min_degree}"
            summary = attack_dataset(
                AttackConfig(
                    model=str(config.model),
                    data=config.data,
                    batch_size=config.batch_size,
                    out=home() / "runs" / "white_box" / model / run,
                    **attacks.PAPER | options | {"min_degree": min_degree},
                )
            )
            summary["settings"]["data"] = Path(config.data).name
            storage.write_json(RESULTS / model / f"{run}.json", summary)
            table[name, min_degree] = next(iter(summary["targets"].values()))
            print(run, table[name, min_degree]["rate"], flush=True)
    with storage.replacing(RESULTS / model / "table.md") as temporary:
        temporary.write_text(markdown(table), encoding="utf-8")
    with storage.replacing(RESULTS / "table.md") as temporary:
        temporary.write_text(overview(), encoding="utf-8")


def markdown(table: dict[tuple[str, int], dict[str, Any]]) -> str:
    """The success rates as a table, one row a setting.

    Args:
      table: (setting, D0) to the rates of the attacked model.

    Returns:
      Markdown.
    """
    head = "".join(f" D0 = {d} |" for d in MIN_DEGREES)
    lines = ["White-box success in %, fooled / correct when clean.", "", f"| setting |{head}"]
    lines.append("|---|" + "---|" * len(MIN_DEGREES))
    for name in SETTINGS:
        rates = [table[name, d] for d in MIN_DEGREES]
        cells = (f" {100 * r['rate']:.1f} ({r['fooled']}/{r['correct']}) |" for r in rates)
        lines.append(f"| {name} |{''.join(cells)}")
    lines.append("| the paper's MobileNet |" + "".join(f" {PAPER[d]:.1f} |" for d in MIN_DEGREES))
    return "\n".join(lines) + "\n"


def overview() -> str:
    """All networks that were attacked, side by side, and their mean where there are several.

    Returns:
      Markdown; a dash where a network has not been attacked so.
    """
    head = "".join(f" D0 = {d} |" for d in MIN_DEGREES)
    lines = ["White-box success in %, each network's own runs.", "", f"| setting | network |{head}"]
    lines.append("|---|---|" + "---|" * len(MIN_DEGREES))
    for number, name in enumerate(SETTINGS):
        rates: dict[str, dict[int, float]] = {}
        for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
            for d in MIN_DEGREES:
                file = folder / f"setting{number}-D0={d}.json"
                if file.exists():
                    judged = json.loads(file.read_text(encoding="utf-8"))["targets"]
                    rates.setdefault(folder.name, {})[d] = next(iter(judged.values()))["rate"]
        for network, found in rates.items():
            cells = (f" {100 * found[d]:.1f} |" if d in found else " - |" for d in MIN_DEGREES)
            lines.append(f"| {name} | {network} |{''.join(cells)}")
        whole = {d: [f[d] for f in rates.values() if d in f] for d in MIN_DEGREES}
        if len(rates) > 1:
            cells = (f" {100 * sum(w) / len(w):.1f} ({len(w)}) |" for w in whole.values())
            lines.append(f"| {name} | **mean (of so many)** |{''.join(cells)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Config))
