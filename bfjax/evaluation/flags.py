"""What an attack that fooled no one says of itself: a zero may mean that the attack failed.

See Carlini et al., On Evaluating Adversarial Robustness, 2019, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from bfjax.types import AttackFlags

_MEANINGS = {
    "zero_gradient": "the gradient was zero or not finite",
    "saturated": "the softmax was exactly 0 or 1, which hides the gradient",
    "not_raised": "the objective ended no higher than it began",
}
ADVICE = (
    "there the attack failed, and the model may not be robust: with bfjax evaluate, try the loss "
    "margin, such as bias_field(loss=margin), another start, such as pgd or "
    "bias_field(start_noise=0.1), or many random starts, for which the gradient hardly matters, "
    "such as restarts(bias_field(start_noise=0.3, num_steps=1), 100)"
)


def count(
    columns: Mapping[str, np.ndarray], resisted: Bool[np.ndarray, " n"]
) -> dict[str, Any] | None:
    """How often each flag is set.

    Args:
      columns: of the records.
      resisted: which images the attacked model got right when clean, and when attacked.

    Returns:
      "resisted", how many these are, and for each flag "all" images and the "resisted" ones that
      have it; `None` where the attack has no flags.

    Example:
      >>> columns = {name: np.array([True, True, False]) for name in AttackFlags._fields}
      >>> count(columns, np.array([True, False, False]))["zero_gradient"]
      {'all': 2, 'resisted': 1}
    """
    if not set(AttackFlags._fields) <= columns.keys():
        return None
    found: dict[str, Any] = {"resisted": int(resisted.sum())}
    for name in AttackFlags._fields:
        flag = np.asarray(columns[name], bool)
        found[name] = {"all": int(flag.sum()), "resisted": int((flag & resisted).sum())}
    return found


def flags_in_words(flags: Mapping[str, Any] | None) -> str | None:
    """What flags say of the images that resisted.

    Args:
      flags: from `count`; older results have none.

    Returns:
      The words; `None` where there is nothing to say.
    """
    if flags is None or not any(flags[name]["resisted"] for name in _MEANINGS):
        return None
    told = [
        f"on {flags[name]['resisted']} {meaning}"
        for name, meaning in _MEANINGS.items()
        if flags[name]["resisted"]
    ]
    return f"of {flags['resisted']} images that were not fooled, {', '.join(told)}"


def advice(flags: Mapping[str, Any] | None) -> str | None:
    """The same in one line, with what to try.

    Args:
      flags: from `count`; older results have none.

    Returns:
      The line; `None` where there is nothing to say.
    """
    words = flags_in_words(flags)
    return None if words is None else f"{words}: {ADVICE}"
