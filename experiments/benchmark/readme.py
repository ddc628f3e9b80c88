"""The speeds that `experiments/README.md` tells, drawn from the benchmark's results.

python -m experiments.benchmark.readme
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from bfjax import storage
from experiments.benchmark.rows import KEPT, NETWORKS, OURS

EXPERIMENTS = Path(__file__).parent.parent
_NAMES = ("ResNet50", "DenseNet121", "MobileNet V1", "MobileNet V2")
NAMES = dict(zip(NETWORKS, _NAMES, strict=True))
FIRST, LAST = "| | bfjax | PyTorch |", "- Time is linear"


def drawn(text: str, results: dict[str, Any]) -> str:
    """The same text with the numbers of these results.

    Args:
      text: of the README: the table begins with a line that begins with `FIRST`; the list of other
        numbers ends with the item that begins with `LAST`.
      results: as the benchmark writes them.

    Returns:
      Markdown.
    """
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(FIRST))
    table_end = lines.index("", start)
    items = next(i for i in range(table_end, len(lines)) if lines[i].startswith("- "))
    end = lines.index("", next(i for i in range(items, len(lines)) if lines[i].startswith(LAST)))
    between = lines[table_end:items]
    return "\n".join(
        [*lines[:start], *_table(results["rows"]), *between, *_items(results), *lines[end:]]
    )


def _table(rows: dict[str, Any]) -> list[str]:
    found = ["| | bfjax | PyTorch | PyTorch, memory kept |", "|---|---|---|---|"]
    for network, name in NAMES.items():
        seconds = {
            k: t["median"]
            for k, t in rows[f"input gradient, {network}, float32"]["timings"].items()
        }
        theirs = {k: s for k, s in seconds.items() if k.startswith("torch")}
        plain = min(s for k, s in theirs.items() if not k.endswith(KEPT))
        kept = min(s for k, s in theirs.items() if k.endswith(KEPT))
        found.append(f"| {name} | {seconds[OURS]:.2f} | {plain:.2f} | {kept:.2f} |")
    return found


def _items(results: dict[str, Any]) -> list[str]:
    rows = results["rows"]
    whole = {n: rows[f"bias-field attack / 10 input gradients, {n}"]["ratio"] for n in NETWORKS}
    bim = {n: rows[f"BIM, 10 steps, {n}"]["ratio"] for n in NETWORKS}
    scan = rows["jit(vmap(run)) / host loop, resnet50"]["ratio"]
    lights = [
        f"{rows[f'certificate, 96 lights / 96 forward passes, {n}']['ratio']:.2f} ({NAMES[n]})"
        for n in ("resnet50", "mobilenet_v1")
    ]
    bounded, native = (
        rows[f"{name} / 10 input gradients, mobilenet_v1"]["ratio"]
        for name in ("bounded field", "attack and fields of 2048 x 2048")
    )
    images = results["whole"]["images"]
    most = max(images, key=int)
    each = 1000 * images[most]["attack"] / int(most)
    mib = [one["peak_mib"] for one in images.values()]
    low, high = (f(whole, key=lambda n: whole[n]) for f in (min, max))
    slow, fast = (f(bim, key=lambda n: bim[n]) for f in (min, max))
    said = [
        f"A whole bias-field attack of ten steps takes {whole[low]:.2f} ({NAMES[low]}) to "
        f"{whole[high]:.2f} ({NAMES[high]}) times as long as ten input gradients.",
        f"On MobileNet V1 ten steps of smooth light within a log-range take {bounded:.2f} times as "
        f"long, a bias-field attack with eight fields of 2048 by 2048 pixels {native:.2f} times.",
        f"BIM is {bim[slow]:.2f} ({NAMES[slow]}) to {bim[fast]:.2f} times ({NAMES[fast]}) as fast "
        "as the fastest of foolbox on PyTorch, foolbox on JAX and torchattacks.",
        f"`jit(vmap(run))` takes {scan:.2f} times as long as the loop driven from the host.",
        f"A certificate takes {' and '.join(lights)} times as long as the forward passes of its "
        "lights.",
        *(_start(NAMES[n], one) for n, one in results["whole"]["second start"].items()),
        f"Time is linear in the number of images ({each:.0f} ms each for {int(most):,} phantoms "
        f"and a small network) at {min(mib):.0f} to {max(mib):.0f} MiB.",
    ]
    return [
        line for item in said for line in textwrap.wrap(f"- {item}", 100, subsequent_indent="  ")
    ]


def _start(name: str, found: dict[str, Any]) -> str:
    first, second = found["first"], found["second"]
    return (
        f"`bfjax attack` on four phantoms with {name}: {first['process']:.1f} s at a first start, "
        f"{second['process']:.1f} s at a second one, whose programs are kept "
        f"(`JAX_COMPILATION_CACHE_DIR`); {second['parts']['steps']:.1f} s of it are attack steps."
    )


def write(results: dict[str, Any]) -> None:
    """Draws the numbers into the README.

    Args:
      results: as the benchmark writes them.
    """
    path = EXPERIMENTS / "README.md"
    text = drawn(path.read_text(encoding="utf-8"), results)
    with storage.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    path = EXPERIMENTS / "results" / "benchmark" / "cpu.json"
    write(json.loads(path.read_text(encoding="utf-8")))
