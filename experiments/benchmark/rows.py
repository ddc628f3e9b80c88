"""The rows of the benchmark: who is timed beside whom, and what is aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.benchmark.alternate import Spec

NETWORKS = ("resnet50", "densenet121", "mobilenet_v1", "mobilenet_v2")
LAYOUTS = ("eager", "channels_last", "compile")
OURS = "bfjax"
KEPT = ", memory kept"
"""Marks a peer that keeps freed memory, as our commands do and as it does not do by itself."""


BEFORE = "before"
"""Ours, of another checkout."""
PEAK: Spec = {"name": "peak"}


class Row(NamedTuple):
    """One comparison.

    Attributes:
      name: of the row.
      contenders: label to contender; ours is `OURS`. Where there is none, the row is a curve: the
        labels are batch sizes, and no ratio is taken.
      goal: the ratio that is aimed at, of the best other's seconds to ours; or, where `cost` is
        set, the largest that is accepted, of ours to the other's.
      cost: whether the ratio is that of ours to the other's.
      peak: the matrix product that stands for what the machine can do.
    """

    name: str
    contenders: dict[str, Spec]
    goal: float = 1
    cost: bool = False
    peak: Spec = PEAK


def beside_before(row: Row, path: str) -> Row:
    """The same row with ours of another checkout in it.

    Args:
      row: the comparison.
      path: of the checkout.

    Returns:
      The row.
    """
    earlier = row.contenders[OURS] | {"path": path}
    return row._replace(contenders=row.contenders | {BEFORE: earlier})


def fastest(row: Row, known: Mapping[str, Any]) -> Row:
    """The same row with those peers only that were the fastest, as they come and with kept memory.

    Args:
      row: the comparison.
      known: the row as it was found before, if it was.

    Returns:
      The row.
    """
    seconds = {k: t["median"] for k, t in known.get("timings", {}).items()}
    peers = [k for k in row.contenders if k != OURS and k in seconds]
    groups = ([k for k in peers if k.endswith(KEPT) is kept] for kept in (False, True))
    best = {min(group, key=lambda k: seconds[k]) for group in groups if group}
    left = {k: spec for k, spec in row.contenders.items() if not best or k in best | {OURS}}
    return row._replace(contenders=left)


def brisque(*, goal: float, **options: Any) -> Row:
    """BRISQUE of 64 images, beside OpenCV."""
    common: Spec = {"batch": 64, **options}
    ours = common | {"name": "brisque", "kept": True}
    theirs = common | {"name": "opencv_brisque"}
    return Row("BRISQUE, 64 images", {OURS: ours, "OpenCV": theirs}, goal=goal)


def rows(*, batch: int, dtypes: tuple[str, ...] = ("float32",)) -> list[Row]:
    """All rows that are timed by alternation.

    Args:
      batch: images at once.
      dtypes: of the input gradients.

    Returns:
      The rows, the short ones first.
    """
    found = [brisque(goal=4)]
    for dtype in dtypes:
        for network in NETWORKS:
            common: Spec = {"network": network, "batch": batch, "dtype": dtype}
            theirs = {
                f"torch {x}{KEPT if kept else ''}": common
                | {"name": "torch_gradient", "layout": x, "kept": kept}
                for kept in (False, True)
                for x in LAYOUTS
            }
            name = f"input gradient, {network}, {dtype}"
            ours = common | {"name": "gradient", "kept": True}
            found.append(Row(name, {OURS: ours, **theirs}, goal=1.2))
    for network in NETWORKS:
        common = {"network": network, "batch": batch}
        kept: Spec = common | {"kept": True}
        found.append(
            Row(
                f"bias-field attack / 10 input gradients, {network}",
                {
                    OURS: {"name": "attack", **kept},
                    "10 gradients": {"name": "gradient", "times": 10, **kept},
                },
                goal=1.15 if network.startswith("mobilenet") else 1.05,
                cost=True,
            )
        )
        found.append(
            Row(
                f"BIM, 10 steps, {network}",
                {
                    OURS: {"name": "bim", **kept},
                    "foolbox, PyTorch": {"name": "foolbox_torch", **common},
                    "foolbox, JAX": {"name": "foolbox_jax", **common},
                    "torchattacks": {"name": "torchattacks_bim", **common},
                },
                goal=1,
            )
        )
    kept = {"network": "mobilenet_v1", "batch": batch, "kept": True}
    gradients: Spec = {"name": "gradient", "times": 10, **kept}
    others: tuple[tuple[str, Spec, float], ...] = (
        ("bounded field", {"name": "bounded"}, 1.15),
        ("attack and fields of 2048 x 2048", {"name": "native", "native_side": 2048}, 3),
    )
    for name, told, goal in others:
        pair: dict[str, Spec] = {OURS: {**told, **kept}, "10 gradients": gradients}
        found.append(Row(f"{name} / 10 input gradients, mobilenet_v1", pair, goal=goal, cost=True))
    for network, steps in (("mobilenet_v1", 150), ("resnet50", 15)):
        kept = {"network": network, "batch": 16, "kept": True}
        found.append(
            Row(
                f"sensitivity map, 16 images, {steps} steps / {steps} input gradients, {network}",
                {
                    OURS: {"name": "sensitivity_maps", "steps": steps, **kept},
                    f"{steps} gradients": {"name": "gradient", "times": steps, **kept},
                },
                goal=1.1,
                cost=True,
            )
        )
    for network in ("mobilenet_v1", "resnet50"):
        kept = {"network": network, "batch": 8, "times": 12, "kept": True}
        found.append(
            Row(
                f"certificate, 96 lights / 96 forward passes, {network}",
                {
                    OURS: {"name": "certificate", **kept},
                    "forward passes": {"name": "forward", **kept},
                },
                goal=1.11,
                cost=True,
            )
        )
    kept = {"network": "resnet50", "batch": batch, "kept": True}
    scan: dict[str, Spec] = {
        OURS: {"name": "scan", **kept},
        "host loop": {"name": "attack", **kept},
    }
    found.append(Row("jit(vmap(run)) / host loop, resnet50", scan, goal=1.05, cost=True))
    return found
