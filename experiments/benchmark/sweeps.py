"""How many programs a sweep over the numbers of an attack compiles."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import bfjax
from bfjax import attacks
from bfjax.types import Image, Logits

SHAPE = (8, 8, 1)  # programs are as many for larger images
_EVENT = "/jax/core/compile/backend_compile_duration"
SIGN = {"epsilon": (0.1, 0.05), "step_size": (0.04, 0.03)}
# of each attack all its numbers, each with the value it has while others are swept, and another
SWEEPS: dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, Any]]]] = {
    "bias_field": (
        lambda **numbers: attacks.bias_field(SHAPE, degree=3, grid_size=3, num_steps=3, **numbers),
        {
            "l1_coefficients": (0.1, 0.9),
            "l1_warp": (0.01, 0.5),
            "step_size": (0.06, 0.05),
            "warp_step_size": (0.05, 0.2),
            "decay": (0.5, 2.0),
            "max_change": (0.1, 0.03),
            "max_log_field": (0.3, 0.05),
            "start_noise": (0.1, 0.2),
            "offset": (0.1, 0.3),
            "max_log_range": (0.4, 0.04),
            "max_warp_gradient": (0.9, 0.05),
            "extent": ((-1.0, 1.0), (0.0, 1.0)),
        },
    ),
    "bias_field, log encoding": (
        lambda **numbers: attacks.bias_field(
            SHAPE, degree=3, grid_size=3, num_steps=3, encoding="log", **numbers
        ),
        {"gamma": (0.29, 0.5), "step_size": (0.06, 0.05)},
    ),
    "fgsm": (attacks.fgsm, {"epsilon": (0.1, 0.05)}),
    "bim": (lambda **numbers: attacks.bim(num_steps=3, **numbers), SIGN),
    "pgd": (lambda **numbers: attacks.pgd(num_steps=3, norm="l2", **numbers), SIGN),
    "mi_fgsm": (
        lambda **numbers: attacks.mi_fgsm(num_steps=3, domain="log", **numbers),
        SIGN | {"decay": (1.0, 0.1)},
    ),
    "di_fgsm": (
        lambda **numbers: attacks.di_fgsm(num_steps=3, **numbers),
        SIGN | {"decay": (1.0, 0.0), "smallest": (0.9, 0.5), "probability": (0.5, 1.0)},
    ),
    "ti_mi_fgsm": (
        lambda **numbers: attacks.ti_mi_fgsm(num_steps=3, kernel_size=5, **numbers),
        SIGN | {"decay": (1.0, 0.1), "sigma": (1.0, 3.0)},
    ),
    "carlini_wagner_l2": (
        lambda **numbers: attacks.carlini_wagner_l2(binary_search_steps=2, max_steps=40, **numbers),
        {"step_size": (0.05, 0.1), "initial_const": (20.0, 9.0), "confidence": (0.0, 9.0)},
    ),
    "saliency_map": (
        lambda **numbers: attacks.saliency_map(max_steps=30, **numbers),
        {"theta": (0.1, 0.3), "max_changes": (2, 1)},
    ),
}


def compilations() -> dict[str, Any]:
    """Programs that `bfjax.run_batch` compiles for a first value, and for another of each number.

    Returns:
      For each attack both; another value compiles none where the number is a leaf.
    """
    images, labels = jnp.full((2, *SHAPE), 0.5), jnp.zeros(2, jnp.int32)

    def predict(image: Image) -> Logits:
        return 9 * jnp.stack([image[:4].mean(), image[4:].mean()])

    def programs(make: Callable[..., Any], numbers: dict[str, Any]) -> int:
        with compiled() as found:
            attack = make(**numbers)
            result = bfjax.run_batch(
                attack, predict, images, labels, key=jax.random.key(0), warn=False
            )
            jax.block_until_ready(result)
        return len(found)

    told = {}
    for name, (make, swept) in SWEEPS.items():
        base = {number: first for number, (first, _) in swept.items()}
        first = programs(make, base)
        others = {n: programs(make, base | {n: other}) for n, (_, other) in swept.items()}
        told[name] = {"first value": first, "another value": others}
    return told


@contextlib.contextmanager
def compiled() -> Iterator[list[float]]:
    """The seconds that each program takes to compile, or to be read, within the block."""
    found: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == _EVENT:
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
