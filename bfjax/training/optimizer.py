"""AdamW along a cycle of rates: what a training run updates its weights with."""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import optax

ScheduleName = Literal["cosine", "one_cycle"]


def make_optimizer(
    steps: int,
    *,
    learning_rate: float,
    head_learning_rate: float | None = None,
    schedule: ScheduleName = "cosine",
    warmup: float = 0.25,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW after gradient clipping, its rate one cycle; only kernels decay.

    Args:
      steps: of the whole run.
      learning_rate: the peak of the schedule.
      head_learning_rate: the peak for the classifier's last layer; `None` for the same.
      schedule: as of `make_schedule`.
      warmup: as of `make_schedule`.
      weight_decay: of kernels.
      clip_norm: gradients are scaled down to this norm.

    Returns:
      The gradient transformation. Gradients are clipped by the norm of all of them, whether or
      not the head has a rate of its own.

    Raises:
      ValueError: `warmup` is not in [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the steps, in [0, 1), got {warmup}")
    decays = functools.partial(jax.tree.map, lambda array: array.ndim > 1)

    def adamw(peak: float) -> optax.GradientTransformation:
        rate = make_schedule(steps, peak=peak, schedule=schedule, warmup=warmup)
        return optax.adamw(rate, weight_decay=weight_decay, mask=decays)

    clip = optax.clip_by_global_norm(clip_norm)
    if head_learning_rate is None:
        return optax.chain(clip, adamw(learning_rate))
    body, head = adamw(learning_rate), adamw(head_learning_rate)
    return optax.chain(clip, optax.partition({"body": body, "head": head}, _parts))


def make_schedule(
    steps: int, *, peak: float, schedule: ScheduleName = "cosine", warmup: float = 0.25
) -> optax.Schedule:
    """From a 25th of the peak up to it, then down along half a cosine to a thousandth.

    Args:
      steps: of the whole run.
      peak: the highest rate.
      schedule: how the rate rises to its peak: linearly, or along half a cosine.
      warmup: the share of the steps until that peak.

    Returns:
      Step to rate.

    Example:
      >>> rate = make_schedule(100, peak=1.0, schedule="one_cycle", warmup=0.5)
      >>> [round(float(rate(step)), 3) for step in (0, 25, 50, 100)]
      [0.04, 0.52, 1.0, 0.001]
    """
    rise = round(warmup * steps)
    if schedule == "one_cycle" and rise:
        # optax counts the final division from the first rate, and cuts the product to an integer
        return optax.cosine_onecycle_schedule(
            steps, peak, pct_start=(rise + 0.5) / steps, div_factor=25, final_div_factor=40
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=peak / 25,
        peak_value=peak,
        warmup_steps=rise,
        decay_steps=steps,
        end_value=peak / 1000,
    )


def _parts(params: Any) -> Any:
    """Each parameter's part of the network: the architectures call their last layer `head`."""

    def part(path: tuple[Any, ...], _: Any) -> str:
        return "head" if any(getattr(k, "key", None) == "head" for k in path) else "body"

    return jax.tree_util.tree_map_with_path(part, params)
