"""The tests of some images: one for each row of an audit, each with what is stored of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from bfjax.attack import logits_of, run_batch, seem_probabilities
from bfjax.evaluation.classes import answered
from bfjax.evaluation.standard.threshold import lowered
from bfjax.robustness import (
    Audit,
    Judged,
    audit,
    correct_homomorphic,
    correct_polynomial,
    judge_correction,
    light,
    margin_of,
    misuse,
    universal,
)
from bfjax.types import Image, Predict, PRNGKey, as_pytree

MACHINE, UNIVERSAL = "machine", "universal"
"""The rows of what a real machine does and of one light for all images, beside the exposures."""
CORRECTIONS = {"polynomial": correct_polynomial, "homomorphic": correct_homomorphic}
"""The corrections that may stand before the classifier, each a row."""

Columns = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Test:
    """Some images and the classifier that is tested on them.

    Attributes:
      predict: the classifier.
      images: (n, h, w, c) in [0, 1].
      labels: (n,).
      names: of the images.
      settings: of the audit.
      batch_size: images at once.
      key: of all that is random.
      on_gradients: called now and then with the gradients spent since.
    """

    predict: Predict
    images: Float[np.ndarray, "n h w c"]
    labels: Integer[np.ndarray, " n"]
    names: list[str]
    settings: dict[str, Any]
    batch_size: int
    key: PRNGKey
    on_gradients: Callable[[float], object]

    @property
    def _grey(self) -> dict[str, Any]:
        return {name: self.settings[name] for name in ("encoding", "gamma")}

    @property
    def _common(self) -> dict[str, Any]:
        kept = ("batch_size", "names", "key", "on_gradients")
        rest = {name: getattr(self, name) for name in kept}
        return {"tiers": self.settings["ranges"], **self._grey, **rest}

    def audited(self, exposure: Any) -> tuple[Columns, Any]:
        """The standard test under one kind of exposure."""
        found = audit(
            self.predict,
            self.images,
            self.labels,
            num_random=self.settings["num_random"],
            exposure=exposure,
            **self._common,
        )
        tiers, number, count, classes = found.random.shape
        repeated = np.tile(self.labels, tiers * number)
        answers, _ = answered(found.random.reshape(-1, classes), repeated)
        right = (answers == repeated).reshape(tiers, number, count).mean(1)
        columns = {
            "clean": list(found.clean),
            "worst": list(found.worst.swapaxes(0, 1).reshape(count, -1)),
            "wrong": list(found.wrong.T),
            "random_right": list(right.T),
            "smallest": found.smallest,
            "turned": list(found.turned),
            "gradients": found.gradients,
        }
        return columns | self._flags(found), found.params

    def machine(self) -> tuple[Columns, Any]:
        """The worst set-up of a machine that was found, along the gradient or at random."""
        attack = misuse(self.images.shape[1:], **self._grey)
        anywhere = misuse(self.images.shape[1:], start_noise=1.0, **self._grey).perturbation
        predict, logits, params, gradients = as_pytree(self.predict), [], [], []
        for start in range(0, len(self.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            count = len(self.images[part])
            filled = np.resize(np.arange(count), self.batch_size)
            images, labels = jnp.asarray(self.images[part][filled]), self.labels[part][filled]
            key = jax.random.fold_in(self.key, start)
            result = run_batch(attack, predict, images, labels, key=key, warn=False)
            worst = _or_nominal(anywhere, predict, images, labels, (result.params, result.logits))
            steps = (~np.asarray(result.trace.stopped)).sum(1)[:count]
            gradients.append(steps + (self.settings["num_random"] + 1) / 3)
            for k in range(self.settings["num_random"]):
                drawn = jax.random.fold_in(key, k)
                worst = _worse_set_up(anywhere, predict, images, labels, drawn, worst)
            logits.append(np.asarray(worst[1])[:count])
            if (unknown := np.isnan(logits[-1]).any(1)).any():
                name = self.names[start + int(unknown.argmax())]
                raise ValueError(f"the classifier answers NaN at {name} under a machine's light")
            params.append(jax.tree.map(lambda x, n=count: np.asarray(x)[:n], worst[0]))
            self.on_gradients(gradients[-1].sum())
        whole = jax.tree.map(lambda *parts: np.concatenate(parts), *params)
        spent = np.concatenate(gradients)
        return {"worst": list(np.concatenate(logits)), "gradients": spent}, whole

    def corrected(self, name: str) -> tuple[Columns, Any]:
        """What a correction before the classifier is worth."""
        judged = judge_correction(
            self.predict,
            _correction(name, self.settings["encoding"]),
            self.images,
            self.labels,
            num_random=self.settings["num_random"],
            exposure=self.settings["exposures"][0],
            **self._common,
        )
        wrong = {f"wrong_{attacker}": list(errs.T) for attacker, errs in judged.wrong.items()}
        columns = {"clean": list(judged.clean), "gradients": judged.gradients, **wrong}
        return columns | self._flags(judged), {}

    def _flags(self, found: Audit | Judged) -> Columns:
        """Those of the model itself, whatever the threshold its answers were raised to."""
        own = lowered(found.clean, self.settings["threshold"])
        told = found.flags | {"probabilities": seem_probabilities(own)}
        return {f"flag_{k}": np.broadcast_to(v, len(own)) for k, v in told.items()}

    def universal(
        self, judged: Callable[[], Iterable[Float[np.ndarray, "b h w c"]]]
    ) -> tuple[Columns, Any]:
        """One light for all of each log-range, fitted on these images and judged on others."""
        exposure, steps = self.settings["exposures"][0], self.settings["universal_steps"]
        size = min(self.batch_size, len(self.images))
        found, lights, log_ranges = [], [], []
        for t, rho in enumerate(self.settings["ranges"]):
            told = {"max_log_range": rho, "exposure": exposure, **self._grey}
            made = universal(
                self.predict,
                self.images,
                self.labels,
                num_steps=steps,
                batch_size=size,
                key=jax.random.fold_in(self.key, t),
                on_step=lambda _: self.on_gradients(size),
                **told,
            )
            threat = light(self.images.shape[1:], **told)
            found.append(self._under(threat.perturbation, made.params, judged()))
            lights.append(np.asarray(made.params))
            log_ranges.append(float(threat.size(made.params)))
            self.on_gradients(len(found[0]) / 3)
        count = len(found[0])
        columns = {
            "logits": list(np.concatenate(found, 1)),
            "log_ranges": list(np.tile(log_ranges, (count, 1))),
            "fitted": np.full(count, len(self.images)),
        }
        return columns, np.tile(np.stack(lights), (count, 1, 1))

    def _under(self, perturbation: Any, params: Any, batches: Any) -> Float[np.ndarray, "n k"]:
        found = []
        for part in batches:
            filled = jnp.asarray(part[np.resize(np.arange(len(part)), self.batch_size)])
            lit = under(perturbation, params, filled)
            found.append(np.asarray(logits_of(as_pytree(self.predict), lit))[: len(part)])
            if np.isnan(found[-1]).any():
                raise ValueError("the classifier answers NaN under one light for all images")
        return np.concatenate(found)


@functools.cache  # equal ones share a compilation
def _correction(name: str, encoding: Any) -> Callable[[Image], Image]:
    return functools.partial(CORRECTIONS[name], encoding=encoding)


@jax.jit
def _worse_set_up(
    anywhere: Any, predict: Any, images: Any, labels: Any, key: Any, worst: Any
) -> Any:
    """Of each image the worst set-up so far, or a random one."""

    def one(image: Any, label: Any, key: Any, worst: Any) -> Any:
        return _worse(anywhere, predict, image, label, anywhere.init(image, key), worst)

    return jax.vmap(one)(images, labels, jax.random.split(key, len(images)), worst)


@jax.jit
def _or_nominal(anywhere: Any, predict: Any, images: Any, labels: Any, worst: Any) -> Any:
    """Of each image the worst set-up so far, or the nominal one, which leaves it as it is."""

    def one(image: Any, label: Any, worst: Any) -> Any:
        nominal = jax.tree.map(jnp.zeros_like, worst[0])
        return _worse(anywhere, predict, image, label, nominal, worst)

    return jax.vmap(one)(images, labels, worst)


def _worse(anywhere: Any, predict: Any, image: Any, label: Any, params: Any, worst: Any) -> Any:
    new = params, predict(anywhere.apply(params, image))
    unknown = jnp.isnan(new[1]).any()  # which is told, and not passed over
    worse = (margin_of(new[1], label) > margin_of(worst[1], label)) | unknown
    return jax.tree.map(lambda n, o: jnp.where(worse, n, o), new, worst)


@jax.jit
def under(perturbation: Any, params: Any, images: Any) -> Any:
    """Images under one light."""
    return jax.vmap(perturbation.apply, (None, 0))(params, images)
