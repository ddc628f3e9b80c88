"""How many programs a sweep over the numbers of an attack compiles."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import bfjax
from bfjax import attacks, models

SIDE = 32
_EVENT = "/jax/core/compile/backend_compile_duration"
_SIGN = {"epsilon": (0.1, 0.05), "step_size": (0.03, 0.02)}
# of each attack its numbers: the value that it has while others are swept, and another
SWEEPS: dict[str, tuple[Callable[..., Any], dict[str, tuple[float, float]]]] = {
    "bias_field": (
        lambda **numbers: attacks.bias_field((SIDE, SIDE), **numbers),
        {
            "max_change": (0.1, 0.05),
            "max_log_field": (0.7, 0.3),
            "l1_coefficients": (0.1, 0.2),
            "l1_warp": (0.0, 0.1),
            "step_size": (0.06, 0.03),
            "warp_step_size": (0.06, 0.03),
            "decay": (1.0, 0.5),
            "offset": (0.1, 0.2),
            "start_noise": (0.1, 0.2),
        },
    ),
    "fgsm": (attacks.fgsm, {"epsilon": (0.1, 0.05)}),
    "bim": (attacks.bim, _SIGN),
    "pgd": (attacks.pgd, _SIGN),
    "mi_fgsm": (attacks.mi_fgsm, _SIGN | {"decay": (1.0, 0.5)}),
    "di_fgsm": (attacks.di_fgsm, _SIGN | {"smallest": (0.9, 0.5), "probability": (0.5, 1.0)}),
    "ti_mi_fgsm": (attacks.ti_mi_fgsm, _SIGN | {"decay": (1.0, 0.5), "sigma": (2.0, 3.0)}),
    "carlini_wagner_l2": (
        lambda **numbers: attacks.carlini_wagner_l2(max_steps=20, **numbers),
        {"step_size": (0.01, 0.02), "initial_const": (0.01, 0.1), "confidence": (0.0, 1.0)},
    ),
    "saliency_map": (
        lambda **numbers: attacks.saliency_map(max_steps=20, **numbers),
        {"theta": (0.1, 0.2), "max_changes": (7, 3)},
    ),
}


def compilations() -> dict[str, Any]:
    """Programs that `bfjax.run_batch` compiles for a first value, and for another of each number.

    Returns:
      For each attack both; another value compiles none where the number is a leaf.
    """
    predict = models.as_predict(models.freeze(models.build("convnet", width=0.25)))
    images, labels = jnp.full((2, SIDE, SIDE, 1), 0.5), jnp.zeros(2, jnp.int32)

    def programs(make: Callable[..., Any], numbers: dict[str, float]) -> int:
        with _compiled() as found:
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
def _compiled() -> Iterator[list[float]]:
    found: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == _EVENT:
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
