"""How far apart are proof and attack, for one smoothed classifier?

    python -m experiments.proof_and_attack --model NOISE_TRAINED --data chest_xray

By the root mean square of the light: from below the share of the images whose right answer is
certified (`bfjax.robustness.certify`), from above the share whose answer no light was found to
change. The light is sought on `smooth` with --num-draws fixed draws, as an audit does: by
`smallest_rms`, and then by all attacks of the audit within the largest root mean square at which
nothing has changed the answer yet, and so on to smaller ones. Nothing clips it, which is what
certificates speak of. What is found is judged by the --num-samples draws that certify, and counts
where most of them give another answer: as few fixed draws tell the direction of a light better than
how strong it must be, the smallest is made weaker or stronger until that is just so. Where the
fixed draws err without light, others are drawn, --num-tries times in all. Two of the attacks are
tried within each certified radius too: there no answer may be another, and how many are is told.
Four to five minutes of a core for an image with MobileNet V1. Each image is written as soon as it
is done, and not made again for the same weights, images and settings. Results go to
`experiments/results/proof_and_attack`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bfjax import run, storage
from bfjax.evaluation.standard import curve
from bfjax.field import legendre
from bfjax.robustness import DEGREE, attacks_within, certify, light, smallest_rms, smooth
from bfjax.storage import environment
from bfjax.types import as_pytree
from experiments import tables
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results" / "proof_and_attack"
RMS = (0.02, 0.05, 0.1, 0.2)
ATTACKS = ("annealed", "halving, margin")
"""Of `attacks_within`, tried within each certified radius."""
ALPHA = 0.001
_WITHIN = 0.99  # of a radius: the proof is of what lies below it
_FACTOR, _STRONGEST = 1.2, 0.7  # of a light in search of the strength that turns the answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """Proof and attack of one smoothed classifier."""

    num_images: int | None = 64
    """Test images, drawn by --seed."""
    sigma: float = 0.05
    """Of the random light."""
    num_samples: int = 1000
    """Random lights that certify an image."""
    num_draws: int = 16
    """Random lights of the classifier that is attacked."""
    num_tries: int = 3
    """Sets of such draws, until a light is found."""
    num_steps: int = 40
    """Gradients of the search for the smallest root mean square."""


def main(config: Config) -> None:
    """Certifies and attacks what is left, and writes table and figure after each image."""
    loaded = load(config)
    predict = as_pytree(loaded.predict)
    kept = ("num_images", "seed", "sigma", "num_samples", "num_draws", "num_tries", "num_steps")
    settings = {name: getattr(config, name) for name in kept}
    settings |= {"checkpoint": loaded.record.sha256, "images": loaded.sha256, "rms": list(RMS)}
    before = storage.read_json(RESULTS / "proof_and_attack.json")
    found = before["found"] if before.get("settings") == settings else []
    one = _programs(config)
    for i in range(len(found), len(loaded.labels)):
        key = jax.random.fold_in(jax.random.key(config.seed), i)
        image, label = loaded.images[i], int(loaded.labels[i])
        found.append(of_image(one, predict, image, label, key, num_tries=config.num_tries))
        write(found, settings)


def _programs(config: Config) -> dict[str, Any]:
    """What is compiled, once for all images."""
    sigma = config.sigma

    def told(predict, image, key):
        field = legendre(image.shape[:2], degree=DEGREE)
        count = config.num_samples
        told = certify(predict, field, image, sigma=sigma, num_samples=count, alpha=ALPHA, key=key)
        return told.label, told.radius, told.counts.argmax()

    def smoothed(predict, image, key):
        field = legendre(image.shape[:2], degree=DEGREE)
        return smooth(predict, field, sigma=sigma, num_samples=config.num_draws, key=key)

    def smallest(predict, image, label, key):
        mean = smoothed(predict, image, key)
        found = smallest_rms(mean, image, label, num_steps=config.num_steps, clip=False)
        return found.rms, found.params

    def lit(params, image):
        return light(image.shape, max_rms=1.0, clip=False).perturbation.apply(params, image)

    def within(predict, image, label, radius, key, name):
        attack = attacks_within(light(image.shape, max_rms=radius, clip=False))[name]
        result = run(attack, smoothed(predict, image, key), image, label, key=key)
        return result.adversarial, jnp.abs(result.params).max() > 0

    return {
        "certified": jax.jit(told),
        "smallest": jax.jit(smallest),
        "lit": jax.jit(lit),
        "within": jax.jit(within, static_argnames="name"),
    }


def of_image(
    programs: dict[str, Any],
    predict: Any,
    image: np.ndarray,
    label: int,
    key: Any,
    *,
    num_tries: int,
) -> dict[str, Any]:
    """What is proven and what is found of one image.

    Args:
      programs: of `_programs`.
      predict: the classifier that is smoothed, a pytree.
      image: (h, w, c) in [0, 1].
      label: its class.
      key: of all draws.
      num_tries: sets of draws that are attacked, until a light is found.

    Returns:
      `certified`, the root mean square up to which the right answer is certain, 0 where it is not
      given; `attacked`, the one at which most draws were found to give another, 0 where they do so
      without light, None where none was found; and of each attack within the certified radius
      whether `certify` was certain of another answer.
    """
    first, search, *own = jax.random.split(key, 2 + len(ATTACKS))
    answer, radius, most = programs["certified"](predict, image, first)
    answer, radius = int(answer), float(radius)
    attacked = 0.0 if int(most) != label else None
    draws = jax.random.fold_in(search, 0)
    for number in range(num_tries):
        if attacked is not None:
            break
        draws = jax.random.fold_in(search, number)
        # judged by the draws that give the right answer without light: it changes at some strength
        attacked = _turned(programs, predict, image, label, draws, first)
    proven = radius if answer == label else 0.0
    # with the last draws, by which a light was found where one was
    attacked = _stronger(programs, predict, image, label, draws, first, attacked, proven)
    broken = {}
    for name, judging in zip(ATTACKS, own, strict=True):
        if answer >= 0:
            lit, is_lit = programs["within"](predict, image, answer, _WITHIN * radius, search, name)
            if not is_lit:  # the fixed draws err without light: nothing was attacked
                continue
            broken[name] = int(programs["certified"](predict, lit, judging)[0]) not in (-1, answer)
    return {
        "certified": proven,
        "attacked": attacked,
        "answer": answer,
        "label": label,
        "broken": broken,
    }


def _turned(
    programs: dict[str, Any], predict: Any, image: np.ndarray, label: int, draws: Any, judge: Any
) -> float | None:
    """The root mean square of a light, found on some draws, that turns most of others."""
    rms, params = programs["smallest"](predict, image, label, draws)
    if not 0 < float(rms) < np.inf:  # these draws err without light, or under none
        return None

    def turns(strength: float) -> bool:
        lit = programs["lit"](strength / rms * params, image)
        return int(programs["certified"](predict, lit, judge)[2]) != label

    strength = float(rms)
    if turns(strength):
        while turns(strength / _FACTOR):
            strength /= _FACTOR
        return strength
    while strength < _STRONGEST:
        strength *= _FACTOR
        if turns(strength):
            return strength
    return None


def _stronger(
    programs: dict[str, Any],
    predict: Any,
    image: np.ndarray,
    label: int,
    draws: Any,
    judge: Any,
    attacked: float | None,
    proven: float,
) -> float | None:
    """`attacked`, or the smaller of RMS within which some attack of the audit turns the image."""
    for rms in reversed(RMS):
        if not proven < rms < (np.inf if attacked is None else attacked):
            continue
        for name in attacks_within(light(image.shape, max_rms=rms, clip=False)):
            lit, is_lit = programs["within"](predict, image, label, rms, draws, name)
            if is_lit and int(programs["certified"](predict, lit, judge)[2]) != label:
                attacked = rms
                break
        else:
            return attacked
    return attacked


def write(found: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Writes the table and the figure of what is known so far.

    Args:
      found: of `of_image`, of each image.
      settings: what it depends on.
    """
    proven = np.array([one["certified"] for one in found])
    attacked = np.array([np.inf if one["attacked"] is None else one["attacked"] for one in found])
    rows = []
    for r in (0.0, *RMS):
        certain = int(((proven > 0) & (proven >= r)).sum())
        standing = int((attacked > r).sum())
        rows.append([f"{r:g}", *(tables.share(count, len(found)) for count in (certain, standing))])
    tried = [hit for one in found for hit in one["broken"].values()]
    title = (
        f"Of {len(found)} test images, the share in % (95 % interval) whose right answer under "
        f"random light of {settings['sigma']:g} is certain, and that no light found changes. "
        f"Within the certified radii {sum(tried)} of {len(tried)} attacks gave another answer."
    )
    head = ("RMS", "certified", "withstands the attack")
    with storage.replacing(RESULTS / "proof_and_attack.png") as temporary:
        draw(proven, attacked).savefig(temporary, format="png", dpi=130)
    results = {"settings": settings, "found": found, "run": environment()}
    tables.write(RESULTS / "proof_and_attack", title, head, rows, results)  # JSON last


def draw(proven: np.ndarray, attacked: np.ndarray) -> Figure:
    """Certified accuracy and accuracy under attack against the root mean square.

    Args:
      proven: (n,), up to which the right answer of each image is certain, 0 where it is not given.
      attacked: (n,), at which it was found to change, infinite where none was found.

    Returns:
      The figure.
    """
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    end = 1.1 * max(*RMS, *attacked[np.isfinite(attacked)])
    heights = []
    for values, colour, label in (
        (attacked, "#b2182b", "no light found changes the answer"),
        (proven, "#2166ac", f"certified: none exists, but for a chance of {ALPHA:g}"),
    ):
        one = curve(values)
        places = np.linspace(0, end, 500)
        at = np.searchsorted(one["log_range"], places, side="right") - 1
        heights.append(100 * np.asarray(one["accuracy"])[at])
        axes.plot(places, heights[-1], drawstyle="steps-post", color=colour, label=label)
    axes.fill_between(places, heights[1], heights[0], color="0.9", label="unknown")
    axes.set(xlabel="root mean square of the light's log field", ylabel="accuracy, %")
    axes.set(xlim=(0, end), ylim=(0, 101))
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config))
