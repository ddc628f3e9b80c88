"""Which step size is best, looking at few of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# of one step size: the geometric mean of the success in each direction, and the success
Score = tuple[float, float]


def score(judged: Mapping[str, Any]) -> Score:
    """What a step size is chosen by.

    A field so strong that the network gives one answer turns a whole class, and is no attack that
    anybody means: the geometric mean of both directions is 0 there, and comes first.

    Args:
      judged: what the attacked model made of the images.

    Returns:
      Geometric mean of the directions' success, and success.

    Example:
      >>> score({"rate": 0.4, "directions": {"N→P": {"rate": 0.25}, "P→N": {"rate": 1.0}}})
      (0.5, 0.4)
    """
    rates = [way["rate"] or 0.0 for way in judged["directions"].values()]
    return statistics.geometric_mean(rates) if all(rates) else 0.0, judged["rate"] or 0.0


def around(scores: Mapping[float, Score], sizes: Sequence[float]) -> Sequence[float]:
    """Where to look for the best step size.

    Args:
      scores: step size to score, of those tried.
      sizes: all, rising.

    Returns:
      The best of those tried between its neighbours; at first the middle of all.

    Example:
      >>> around({}, (1, 2, 4)), around({2: (0.0, 0.5), 4: (0.3, 0.4)}, (1, 2, 4, 8))
      ((1, 2, 4), (2, 4, 8))
    """
    at = sizes.index(best(scores)) if scores else len(sizes) // 2
    return sizes[max(at - 1, 0) : at + 2]


def best(scores: Mapping[float, Score]) -> float:
    """The step size of the highest score; of equal ones the smallest."""
    return max(sorted(scores), key=scores.__getitem__)
