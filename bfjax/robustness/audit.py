"""The standard test of a classifier on a set of images: how much uneven light it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from bfjax.attack import check_batch, is_saturated, run_batch, seem_probabilities
from bfjax.field import Encoding
from bfjax.numbers import Number
from bfjax.robustness import programs
from bfjax.robustness.exposure_scan import is_exposure_alone
from bfjax.robustness.flags import same_answers
from bfjax.robustness.known import Known
from bfjax.robustness.smallest_range import parts
from bfjax.robustness.threat import TIERS, Exposure, light
from bfjax.types import Attack, Predict, PRNGKey, as_key, as_pytree


class Audit(NamedTuple):
    """What the standard test found, of n images at t log-ranges.

    Attributes:
      tiers: (t,), the log-ranges ρ, in rising order.
      clean: (n, classes), logits without light.
      random: (t, k, n, classes), logits under k random lights whose range is exactly ρ.
      worst: (t, n, classes), logits under the worst light found within ρ. An image leaves as soon
        as it is turned: how far it could be turned is not sought.
      wrong: (t, n), whether the classifier errs under it.
      smallest: (n,), the smallest log-range at which it was found to err; 0 without light, infinite
        where none was found.
      params: (n, p), c of that light.
      turned: (n, classes), logits under it; those without light where none was found.
      gradients: (n,), spent on each image until it is decided. Three forward passes are one, and
        the few that read off what an attack found are left out.
      flags: names of `FLAGS` to one truth or (n,) of them.
    """

    tiers: Float[np.ndarray, " t"]
    clean: Float[np.ndarray, "n classes"]
    random: Float[np.ndarray, "t k n classes"]
    worst: Float[np.ndarray, "t n classes"]
    wrong: Bool[np.ndarray, "t n"]
    smallest: Float[np.ndarray, " n"]
    params: Float[np.ndarray, "n p"]
    turned: Float[np.ndarray, "n classes"]
    gradients: Float[np.ndarray, " n"]
    flags: dict[str, Any]


def audit(
    predict: Predict,
    images: Float[Array | np.ndarray, "n h w c"],
    labels: Integer[Array | np.ndarray, "n ..."],
    *,
    tiers: Sequence[float] = tuple(TIERS.values()),
    num_random: int = 32,
    num_steps: int = 32,
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    batch_size: int = 16,
    names: list[str] | None = None,
    key: PRNGKey,
    on_gradients: Callable[[float], object] | None = None,
) -> Audit:
    """Tests a classifier under light of several log-ranges.

    For each image: the answer without light; under random lights; the smallest range at which it
    errs (`smallest_range`); and then the attacks of `attacks_within`, one after the other, at the
    largest log-range at which nothing has turned it yet, and so on to smaller ones. An image leaves
    as soon as it is decided: what is turned within a range is so within every larger one, and what
    withstands all attacks within a range is taken to withstand smaller ones. Of two classes the
    attack on the cross-entropy is left out: it takes the steps of the one on the margin. In the end
    the light that was found is weakened along its own line, by bisection, for as long as the
    classifier errs.

    Args:
      predict: the classifier.
      images: (n, h, w, c) in [0, 1].
      labels: (n,), or (n, heads) of findings.
      tiers: log-ranges to report.
      num_random: lights for each image and range; two of exposure alone, which is drawn as one of
        two.
      num_steps: of the search for the smallest range.
      exposure: see `light`.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      batch_size: images at once.
      names: what to call the images where one cannot be used; their numbers by default.
      key: of all that is random.
      on_gradients: called now and then with the gradients spent since, over all images.

    Returns:
      What was found, in NumPy.

    Raises:
      ValueError: for ranges that are not positive, a classifier that answers NaN where its slope is
        finite, and as `bfjax.run_batch`.

    Example:
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> images = jnp.full((2, 16, 16, 1), 0.5)
      >>> found = audit(predict, images, jnp.ones(2, int), num_random=2, key=jax.random.key(0))
      >>> found.wrong.mean(1).tolist()
      [1.0, 1.0, 1.0, 1.0]
      >>> [round(float(rho), 2) for rho in found.smallest]
      [0.06, 0.06]

    Reference: Croce et al., *RobustBench*, NeurIPS 2021, for the manner of the test.
    """
    check_batch(predict, images, labels, names=names)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not len(tiers):
        raise ValueError("tiers must be at least one log-range, got none")
    images, labels = np.asarray(images), np.asarray(labels)
    threat = light(
        images.shape[1:],
        max_log_range=max(map(float, tiers)),
        exposure=exposure,
        encoding=encoding,
        gamma=gamma,
    )
    spent = on_gradients or (lambda _: None)
    rising = sorted(map(float, tiers))
    test = _Test(as_pytree(predict), images, labels, threat, rising, batch_size, names)
    key = as_key(key)
    test.clean()
    spent(test.gradients.sum())
    number = min(num_random, 2) if exposure == "alone" else num_random
    before = test.gradients.sum()
    random = test.random(jax.random.fold_in(key, 0), number)
    test.smallest_ranges(num_steps)
    spent(test.gradients.sum() - before)
    while len(test.undecided()[0]):
        before = test.gradients.sum()
        test.union(key)
        spent(test.gradients.sum() - before)
    before = test.gradients.sum()
    test.weaken()
    spent(test.gradients.sum() - before)
    return test.result(random)


class _Test(Known):
    """An audit under way: what is known of each image."""

    def batches(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `programs.batches`."""
        return programs.batches(chosen, self.batch_size)

    def clean(self) -> None:
        """The answers without light."""
        none = np.asarray(self.threat.perturbation.init(jnp.asarray(self.images[0]), None))
        self.params = np.tile(none, (len(self.images), 1))
        logits, again, slopes = [], [], []
        for chosen, real in self.batches(np.arange(len(self.images))):
            for answers in (logits, again):
                answer, slope = programs.clean(self.threat, self.predict, *self.of(chosen))
                answers.append(np.asarray(answer)[real])
            slopes.append(np.asarray(slope)[real])
        self.logits = np.concatenate(logits)
        self.check_answers(self.logits, np.arange(len(self.images)))
        self.turned = self.logits.copy()
        self.worst = np.repeat(self.logits[None], len(self.tiers), 0)
        self.margins = np.repeat(self.margin(self.logits)[None], len(self.tiers), 0)
        self.smallest[self.wrong(self.logits)] = 0
        self.gradients += 2
        steep = np.concatenate(slopes)
        self.flags["zero_gradient"] = ~((steep > 0) & np.isfinite(steep))
        self.flags["saturated"] = self.mapped(is_saturated, self.logits)
        self.flags["randomised"] = not same_answers(self.logits, np.concatenate(again))
        self.flags["probabilities"] = seem_probabilities(self.logits)

    def random(self, key: PRNGKey, number: int) -> np.ndarray:
        """(t, k, n, classes): the answers under random lights, which may be the worst ones too."""
        count, classes = self.logits.shape
        found = np.zeros((len(self.tiers), number, count, classes), self.logits.dtype)
        alone = is_exposure_alone(self.threat)
        for chosen, real in self.batches(np.arange(count)):
            images = self.of(chosen)[0]
            for k in range(number):
                keys = jax.vmap(lambda i, k=k: jax.random.fold_in(jax.random.fold_in(key, k), i))(
                    chosen
                )
                for t, rho in enumerate(self.tiers):
                    threat = self.threat.scaled(rho)
                    params = programs.drawn(threat, keys)
                    if alone:  # there are two, and each has its turn
                        params = (-1) ** k * abs(params)
                    logits = programs.lit(threat, self.predict, images, params)
                    found[t, k, chosen[real]] = np.asarray(logits)[real]
                    self.offer(chosen[real], np.asarray(params)[real], np.asarray(logits)[real])
        self.gradients += len(self.tiers) * number / 3
        return found

    def smallest_ranges(self, num_steps: int) -> None:
        """The smallest range of each image that is right without light."""
        for chosen, real in self.batches(np.flatnonzero(self.smallest > 0)):
            images, labels = self.of(chosen)
            state = programs.start(self.threat, images)
            for part in parts(num_steps):
                state = programs.step(self.threat, self.predict, images, labels, state, part)
            found = programs.finish(self.threat, self.predict, images, labels, state)
            logits = np.asarray(found.logits)[real]
            self.offer(chosen[real], np.asarray(found.params)[real], logits)
            self.followed[chosen[real]] |= self.wrong(logits, chosen[real])
            self.gradients[chosen[real]] += num_steps

    def undecided(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of which one range is not decided, and the largest such range of every image."""
        place = (self.smallest > self.limits[:, None]).sum(0) - 1
        return np.flatnonzero((place >= 0) & ~self.survived), place

    def union(self, key: PRNGKey) -> None:
        """All attacks on what is undecided, each image within a range of its own."""
        undecided, place = self.undecided()
        ranges, findings = jnp.float32(self.tiers[place]), self.labels.ndim > 1
        attacks = programs.each_within(self.threat, ranges, findings=findings)
        limits = self.limits[place]
        for number, (name, of_images) in enumerate(attacks.items()):
            if name == "halving, cross-entropy" and self.logits.shape[1] <= (1 if findings else 2):
                continue  # it has the slopes of the margin then, and ranks lights alike
            left = undecided[self.smallest[undecided] > limits[undecided]]
            for chosen, real in self.batches(left):
                keys = programs.keys_within(key, place[chosen], number, chosen)
                attack = of_images(chosen)
                images, labels = self.of(chosen)
                result = run_batch(attack, self.predict, images, labels, key=keys, warn=False)
                spent = programs.gradients(attack, result)
                self.gradients[chosen[real]] += spent[real]
                # where a slope was not finite, the last light is none
                real &= np.isfinite(np.asarray(result.params)).all(1)
                here, logits = chosen[real], np.asarray(result.logits)[real]
                self.offer(here, np.asarray(result.params)[real], logits)
                if isinstance(attack, Attack):
                    # a random start that errs has followed none
                    self.followed[here] |= self.wrong(logits, here) & (spent[real] > 0)
        self.survived[undecided] = self.smallest[undecided] > limits[undecided]

    def result(self, random: np.ndarray) -> Audit:
        """What was found."""
        wrong = self.smallest <= self.limits[:, None]
        turned = (self.smallest > 0) & np.isfinite(self.smallest)
        self.flags["gradient_free"] = turned & ~self.followed
        return Audit(
            self.tiers,
            self.logits,
            random,
            self.worst,
            wrong,
            self.smallest,
            self.params,
            self.turned,
            self.gradients,
            self.flags,
        )
