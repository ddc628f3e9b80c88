"""How sure a measured AUC or calibration error is: 95 % intervals (of shares: bfjax.metrics)."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int

from bfjax.metrics import wilson_interval

Interval = tuple[float, float]

LEVEL = 0.95
_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
_BINS = 15


def mean_auc(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> tuple[float, Interval]:
    """The mean over classes of each one's AUC against the rest, with DeLong's interval.

    For two classes whose scores are ±s it is the AUC itself. An AUC is a mean of placements (the
    share of the other kind that an image is ranked rightly against), so its variance is that of
    each image's placements divided by how many are of its kind; the interval is symmetric in
    log(A / (1 − A)), to stay within (0, 1). Where all are 0 or all 1, and that variance vanishes,
    it is Wilson's for as many images as the rarest class has. One image alone tells no variance.

    Args:
      scores: (n, k), column c higher where class c is likelier.
      labels: (n,), the true classes.

    Returns:
      The AUC and its interval; all NaN where a class has no image, the ends where
      one has but one and the AUC is neither 0 nor 1.

    Example:
      >>> scores = np.array([0.1, 0.4, 0.4, 0.8])
      >>> found, (low, high) = mean_auc(np.stack([-scores, scores], 1), np.array([0, 0, 1, 1]))
      >>> found, low < found < high
      (0.875, True)

    Reference: DeLong, DeLong, Clarke-Pearson, Comparing the Areas under Two or More Correlated
    ROC Curves, Biometrics 44, 1988.
    """
    n, k = scores.shape
    counts = np.bincount(labels, minlength=k)
    if not counts.all():
        return float("nan"), (float("nan"), float("nan"))
    areas, influence = np.zeros(k), np.zeros(n)
    for c in range(k):
        positive = labels == c
        placed = _placements(scores[:, c], positive)
        areas[c] = area = placed[positive].mean()
        kind = np.where(positive, counts[c], n - counts[c])
        # n / (n - 1) of each kind: the unbiased variance, as DeLong's
        influence += (placed - area) / np.sqrt(kind * np.maximum(kind - 1, 1)) / k
    total, rarest = float(areas.mean()), int(counts.min())
    if (areas == 0).all() or (areas == 1).all():
        return total, wilson_interval(round(total) * rarest, rarest, level=LEVEL)
    if rarest < 2:
        return total, (float("nan"), float("nan"))
    error = np.sqrt((influence**2).sum()) / (total * (1 - total))
    ends = np.log(total / (1 - total)) + np.array([-1, 1]) * _Z * error
    low, high = 1 / (1 + np.exp(-ends))
    return total, (float(low), float(high))


def _placements(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """For each image, the share of the other kind it is ranked rightly against; ties half."""
    placed = np.full(len(scores), np.nan)
    if positive.all() or not positive.any():
        return placed
    for kind, sign in ((positive, 1), (~positive, -1)):
        mine, others = sign * scores[kind], np.sort(sign * scores[~kind])
        less, most = (np.searchsorted(others, mine, side) for side in ("left", "right"))
        placed[kind] = (less + most) / (2 * len(others))
    return placed


def calibration_error(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, resamples: int = 2000
) -> tuple[float, Interval]:
    """The expected calibration error, and its percentile bootstrap over images.

    ``Σ_b n_b / n |accuracy_b − confidence_b|`` over fifteen bins of equal width. It is never
    negative, so noise alone lifts it above 0, and lifts the bootstrap further: the interval of a
    small, well calibrated test set may lie above the error itself.

    Args:
      confidence: (n,), the probability given to the answer.
      right: (n,), whether the answer was right.
      resamples: of the bootstrap, whose seed is fixed.

    Returns:
      The error and its interval; all NaN where a confidence is.

    Example:
      >>> error, (low, high) = calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
      >>> round(error, 3), round(low, 3), round(high, 3)
      (0.4, 0.1, 0.9)

    Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, Eq. 3.
    """
    n = len(confidence)
    if np.isnan(confidence).any():  # a diverged classifier still has its accuracy
        return float("nan"), (float("nan"), float("nan"))
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    # n_b / n (accuracy_b − confidence_b) is one sum over the images of a bin, so a resampled
    # error is linear in how often each image was drawn, up to the absolute values
    gaps = np.zeros((n, _BINS))
    gaps[np.arange(n), bins] = (right - confidence) / n
    random, even = np.random.default_rng(0), np.full(n, 1 / n)
    errors = [np.abs(random.multinomial(n, even) @ gaps).sum() for _ in range(resamples)]
    low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(np.abs(gaps.sum(0)).sum()), (float(low), float(high))


def paired(differences: Float[np.ndarray, " n"]) -> dict[str, float | None]:
    """The mean of paired differences, with Student's 95 % interval.

    Args:
      differences: (n,), one for each image.

    Returns:
      `mean`, `low` and `high`; the ends are None for a single one.

    Example:
      >>> {k: round(v, 2) for k, v in paired(np.array([1.0, 0.0, 1.0, 0.0])).items()}
      {'mean': 0.5, 'low': -0.42, 'high': 1.42}
    """
    from scipy import stats  # half a second, for those alone who measure

    mean, n = float(differences.mean()), len(differences)
    error = float(stats.sem(differences)) if n > 1 else None
    reach = None if error is None else float(stats.t.ppf(0.975, n - 1)) * error
    ends = (None, None) if reach is None else (mean - reach, mean + reach)
    return {"mean": mean, "low": ends[0], "high": ends[1]}


def paired_shares(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
) -> dict[str, float | None]:
    """The difference of two shares of the same images, with Newcombe's 95 % interval.

    With Wilson's intervals (l, u) of both shares p, and φ their correlation over the images, the
    lower end is p₁ − p₂ − √(δ₁² − 2 φ δ₁ ε₂ + ε₂²), δ₁ = p₁ − l₁ and ε₂ = u₂ − p₂; the upper one
    likewise, with δ and ε exchanged.

    Args:
      first: (n,), whether each image is one.
      second: (n,), the same of the other share.

    Returns:
      `mean`, `low` and `high`.

    Example:
      >>> {k: round(v, 2) for k, v in paired_shares(np.ones(4, bool), np.zeros(4, bool)).items()}
      {'mean': 1.0, 'low': 0.31, 'high': 1.0}

    Reference: Newcombe, Improved Confidence Intervals for the Difference Between Binomial
    Proportions Based on Paired Data, Statistics in Medicine 17, 1998, method 10 (without its
    correction of φ for continuity).
    """
    n, shares = len(first), np.array([first.mean(), second.mean()])
    ends = np.array([wilson_interval(int(one.sum()), n, level=LEVEL) for one in (first, second)])
    down, up = shares - ends[:, 0], ends[:, 1] - shares
    spread = np.sqrt(np.prod(shares * (1 - shares)))
    covariance = np.mean(first & second) - np.prod(shares)
    phi = covariance / spread if spread > 0 else 0.0
    mean = shares[0] - shares[1]

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0)))

    low, high = mean - reach(down[0], up[1]), mean + reach(up[0], down[1])
    return {"mean": float(mean), "low": float(low), "high": float(high)}
