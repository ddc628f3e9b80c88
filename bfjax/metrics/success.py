"""Success and transfer rates, with the accounting that the paper's figures were made with.

Convention:
    An attack on a *source* model is made for every image, whether or not it fooled the source and
    whether or not the source was right when clean; what a search left unchanged stays unchanged. A
    *target* model then judges all of them. The denominator is what the target gets right when
    clean; white-box is source = target. Predictions are class indices.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import Array, Integer

_Indices = np.ndarray | Array


class SuccessRate(NamedTuple):
    """How many of the images that a model got right it gets wrong when attacked.

    From `transfer_matrix` each attribute is an array (sources, targets).

    Attributes:
      correct: images the model classifies correctly when clean (the denominator).
      fooled: those among them that it gets wrong when attacked.
      rate: fooled / correct, in [0, 1]; NaN when no image was correct.
    """

    correct: int | np.ndarray
    fooled: int | np.ndarray
    rate: float | np.ndarray

    @property
    def interval(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Both ends of the rate's 95 % Wilson interval."""
        return wilson_interval(self.fooled, self.correct)


def success_rate(
    labels: Integer[_Indices, " n"],
    clean: Integer[_Indices, " n"],
    adversarial: Integer[_Indices, " n"],
    *,
    true_class: int | None = None,
) -> SuccessRate:
    """Success of an attack on one target model, white-box or transferred.

    |{i: clean_i = y_i and adversarial_i ≠ y_i}| / |{i: clean_i = y_i}|. The adversarial images are
    made on the source model for every image, whether or not they fooled the source.

    Args:
      labels: (n,), the true classes y.
      clean: (n,), the target's predictions on the clean images.
      adversarial: (n,), the target's predictions on the adversarial images.
      true_class: count only images of this class, above and below the fraction bar. For normal
        chests as class 0 and pneumonia as class 1, the two directions: 1 gives the rate of missed
        pneumonia, 0 that of false alarms.

    Returns:
      The counts and the rate, with its 95 % interval as a property.

    Raises:
      ValueError: when the lengths differ.

    Example:
      >>> import numpy as np
      >>> success_rate(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1, 0, 1]))
      SuccessRate(correct=2, fooled=1, rate=0.5)
      >>> low, high = success_rate(np.zeros(9, int), np.zeros(9, int), np.ones(9, int)).interval
      >>> round(low, 2), high
      (0.7, 1.0)

    Reference: Tian et al., ICME 2021, Tables 1 and 2; 102 of their 106 rates below 100 % are
    multiples of 1/553, 1/548 or 1/555, the numbers of test images their models got right.
    """
    _check_lengths(labels, clean, adversarial)
    right, wrong = _judged(labels, clean, adversarial, true_class)
    correct, fooled = int(right.sum()), int(wrong.sum())
    return SuccessRate(correct, fooled, fooled / correct if correct else float("nan"))


def transfer_matrix(
    labels: Integer[_Indices, " n"],
    clean: Integer[_Indices, "targets n"],
    adversarial: Integer[_Indices, "sources targets n"],
    *,
    true_class: int | None = None,
) -> SuccessRate:
    """Success of attacks made on many source models, judged by many target models.

    Entry (s, t) is `success_rate` of the images attacked on source s, judged by target t. With the
    same models in the same order on both sides, the diagonal is white-box.

    Args:
      labels: (n,), the true classes.
      clean: (targets, n), each target's predictions on the clean images.
      adversarial: (sources, targets, n), each target's predictions on the images attacked on each
        source.
      true_class: count only images of this class, see `success_rate`.

    Returns:
      A `SuccessRate` of (sources, targets) arrays.

    Raises:
      ValueError: when the shapes do not fit together.

    Example:
      >>> import numpy as np
      >>> labels = np.array([0, 1])
      >>> clean = np.array([[0, 1], [0, 0]])
      >>> adversarial = np.array([[[1, 0], [0, 0]]])
      >>> transfer_matrix(labels, clean, adversarial).rate
      array([[1., 0.]])

    Reference: Tian et al., ICME 2021, Table 1.
    """
    n, judges, judged = map(np.shape, (labels, clean, adversarial))
    if len(judges) != 2 or len(judged) != 3 or judges[1:] != n or judged[1:] != judges:
        raise ValueError(
            "labels (n,), clean (targets, n) and adversarial (sources, targets, n) do not fit: "
            f"{n}, {judges}, {judged}"
        )
    right, wrong = _judged(labels, clean, adversarial, true_class)
    fooled = wrong.sum(-1)
    correct = np.broadcast_to(right.sum(-1), fooled.shape)
    return SuccessRate(correct, fooled, fooled / np.where(correct > 0, correct, np.nan))


def _judged(labels, clean, adversarial, true_class=None) -> tuple[np.ndarray, np.ndarray]:
    """Which images count, and which of them were fooled; leading axes broadcast."""
    labels, clean, adversarial = map(np.asarray, (labels, clean, adversarial))
    right = clean == labels
    if true_class is not None:
        right = right & (labels == true_class)
    return right, right & (adversarial != labels)


def _check_lengths(*predictions) -> None:
    shapes = [np.shape(array) for array in predictions]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1:
        raise ValueError(f"one class for each image is wanted from all, got shapes {shapes}")


@overload
def wilson_interval(successes: int, counts: int, *, level: float = 0.95) -> tuple[float, float]: ...


@overload
def wilson_interval(
    successes: Integer[_Indices, "*shape"],
    counts: Integer[_Indices, "*shape"],
    *,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]: ...


@overload
def wilson_interval(
    successes: int | np.ndarray, counts: int | np.ndarray, *, level: float = 0.95
) -> tuple[float | np.ndarray, float | np.ndarray]: ...


def wilson_interval(
    successes: int | Integer[_Indices, "*shape"],
    counts: int | Integer[_Indices, "*shape"],
    *,
    level: float = 0.95,
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Wilson's score interval of a share k / n; it stays sensible at 0 and at 1.

    (k + z²/2 ± z √(k (n − k) / n + z²/4)) / (n + z²), z the normal quantile of (1 + level) / 2.

    Args:
      successes: k, a number or an array.
      counts: n, of the same shape, k ≤ n.
      level: how often the interval holds the true share, between 0 and 1.

    Returns:
      The lower and the upper end, in [0, 1], of the shape of the arguments; NaN where n is 0.

    Raises:
      ValueError: unless 0 ≤ k ≤ n and 0 < level < 1.

    Example:
      >>> [round(end, 3) for end in wilson_interval(9, 10)]
      [0.596, 0.982]

    Reference: Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
    Journal of the American Statistical Association 22, 1927.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    k, n = np.asarray(successes), np.asarray(counts)
    if not np.all((k >= 0) & (k <= n)):
        raise ValueError(f"successes must be between 0 and counts, got {successes} of {counts}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    k, n = k.astype(float), np.where(n > 0, n, np.nan)  # squares of 32-bit integers overflow

    def low(k):  # the smaller root, as the product of both over the larger: exactly 0 at k = 0
        return k**2 / n / (k + z**2 / 2 + z * np.sqrt(k * (n - k) / n + z**2 / 4))

    ends = low(k), 1 - low(n - k)
    return ends if n.ndim else (float(ends[0]), float(ends[1]))


class McNemar(NamedTuple):
    """Which of two attacks fools a model more often, on the same images.

    Attributes:
      only_first: images that only the first attack fooled it on.
      only_second: images that only the second attack fooled it on.
      p_value: two-sided; small when one attack is better.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    labels: Integer[_Indices, " n"],
    clean: Integer[_Indices, " n"],
    first: Integer[_Indices, " n"],
    second: Integer[_Indices, " n"],
    *,
    mid_p: bool = False,
) -> McNemar:
    """McNemar's exact test of two attacks on the same images, judged by one model.

    Among the images that the model gets right when clean, only those that one attack fooled and
    the other did not tell the attacks apart; were both equally good, the b and c such images would
    be a fair coin's: p = min(1, 2 P(X ≤ min(b, c))), X ~ Binomial(b + c, 1/2).

    Args:
      labels: (n,), the true classes.
      clean: (n,), the model's predictions on the clean images.
      first: (n,), its predictions on the images of the first attack.
      second: (n,), its predictions on the images of the second attack.
      mid_p: count the observed outcome by half, p − P(X = min(b, c)): less conservative, and no
        longer guaranteed to keep the level.

    Returns:
      b, c and the two-sided p-value.

    Raises:
      ValueError: when the lengths differ.

    Example:
      >>> import numpy as np
      >>> zeros = np.zeros(6, int)
      >>> mcnemar(zeros, zeros, np.array([1, 1, 1, 1, 1, 0]), zeros)
      McNemar(only_first=5, only_second=0, p_value=0.0625)

    Reference: McNemar, Psychometrika 12, 1947; mid-p: Fagerland, Lydersen, Laake, BMC Medical
    Research Methodology 13:91, 2013.
    """
    _check_lengths(labels, clean, first, second)
    _, by_first = _judged(labels, clean, first)
    _, by_second = _judged(labels, clean, second)
    b, c = int((by_first & ~by_second).sum()), int((by_second & ~by_first).sum())
    ways = tail = 1  # whole numbers, so only the last division rounds
    for k in range(min(b, c)):
        ways = ways * (b + c - k) // (k + 1)
        tail += ways
    doubled = 2 * tail - (ways if mid_p else 0)
    return McNemar(b, c, min(1.0, doubled / 2 ** (b + c)))
