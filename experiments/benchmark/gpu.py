"""The rows for a GPU, in groups whose processes start, and compile, all at once.

Minutes on a GPU are dear, and compilation takes most of them. So groups come in the order of what
is asked first, and each is done, or left out, on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.benchmark.alternate import Spec
from experiments.benchmark.rows import NETWORKS, OURS, Row, brisque

BATCHES = (8, 32, 128)
DTYPES = ("tf32", "bfloat16", "float32")
MATRIX = 8192
"""A matrix that keeps a GPU busy."""


def curve(network: str) -> str:
    """The name of the row that has images a second against the batch size."""
    return f"images a second by batch size, {network}, tf32"


def groups(
    rows: Mapping[str, Any],
    *,
    batches: Sequence[int] = BATCHES,
    networks: Sequence[str] = NETWORKS,
    side: int = 224,
    matrix: int = MATRIX,
) -> Iterator[list[Row]]:
    """All rows, the first groups first.

    Args:
      rows: found so far, by name. What a later group is timed at is the best batch size in them, so
        they are to be filled in as the groups come.
      batches: sizes that are tried.
      networks: that are timed.
      side: of the images.
      matrix: side of the matrices of the product that stands for the peak.

    Yields:
      The rows of a group.
    """
    peak: dict[str, Spec] = {x: {"name": "peak", "dtype": x, "size": matrix} for x in DTYPES}

    def common(network: str) -> Spec:
        found = rows.get(curve(network), {}).get("images_per_second") or {}
        best = max(found, key=lambda size: found[size]) if found else max(batches)
        return {"network": network, "batch": int(best), "side": side}

    def ours(network: str, **options: Any) -> Spec:
        return common(network) | {"dtype": "tf32", "kept": True} | options

    yield [
        brisque(goal=20, side=side),
        *(
            Row(
                curve(network),
                {str(size): ours(network, name="gradient", batch=size) for size in batches},
                peak=peak["tf32"],
            )
            for network in networks
        ),
    ]

    def gradients(dtype: str) -> list[Row]:
        return [
            Row(
                f"input gradient, {network}, {dtype}",
                {
                    OURS: ours(network, name="gradient", dtype=dtype),
                    "torch compile": common(network)
                    | {"name": "torch_gradient", "layout": "compile", "dtype": dtype},
                },
                peak=peak[dtype],
            )
            for network in networks
        ]

    yield gradients("tf32")
    yield _attacks(networks[0], ours, common, peak["tf32"])
    yield gradients("bfloat16")
    yield gradients("float32")
    for network in networks[1:]:
        yield _attacks(network, ours, common, peak["tf32"])


def _attacks(network: str, ours: Any, common: Any, peak: Spec) -> list[Row]:
    """Whole attacks of ten steps."""
    ten = ours(network, name="gradient", times=10)
    theirs = {
        "foolbox, PyTorch": common(network) | {"name": "foolbox_torch"},
        "foolbox, JAX": common(network) | {"name": "foolbox_jax"},
        "torchattacks": common(network) | {"name": "torchattacks_bim"},
    }
    return [
        Row(
            f"bias-field attack / 10 input gradients, {network}",
            {OURS: ours(network, name="attack"), "10 gradients": ten},
            goal=1.15,
            cost=True,
            peak=peak,
        ),
        Row(f"BIM, 10 steps, {network}", {OURS: ours(network, name="bim")} | theirs, peak=peak),
    ]
