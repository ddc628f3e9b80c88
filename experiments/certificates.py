"""What is proven of the classifiers under uneven light?

    python -m experiments.certificates --models MOBILENET --few RESNET50

The certificates of `bfjax certify`: of --models on all test images, of --few on --few-images of
them, which --seed draws. Classifiers should be trained with noise of --sigma. An image takes
twelve seconds of a core with MobileNet V1, all 624 on two cores one to two hours. They lie in
`BFJAX_HOME`/runs/certificates, and go on there where they were interrupted. Table, figure and each
`certificates.json` go to `experiments/results/certificates`.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import tyro

from bfjax import storage
from bfjax.evaluation import certified
from bfjax.evaluation.certified import CertifyConfig
from experiments import tables
from experiments.audits import once
from experiments.inputs import names_differ

RESULTS = Path(__file__).parent / "results" / "certificates"
LIGHTS = {"radius": "not clipped", "safe_radius": "clipped too"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Certificates of classifiers under uneven light."""

    models: tuple[str, ...] = ()
    """Models, as `bfjax certify` takes them, that are certified on all test images."""
    few: tuple[str, ...] = ()
    """Models that are certified on --few-images of them."""
    few_images: int = 32
    """Test images, drawn by --seed."""
    sigma: float = 0.05
    """Of the random light."""
    num_samples: int = 1000
    """Random lights that certify an image."""
    headroom: float = 1.0
    """Share of their brightness at which images are stored."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    image_size: int | None = None
    """Side of the images; none: as the models say."""
    batch_size: int = 8
    """Lights on an image at once."""
    seed: int = 0
    """Of all that is random."""


def main(config: Config) -> None:
    """Certifies what is left, and writes table and figure after each model."""
    for folders in (config.models, config.few):
        names_differ(folders)
    found: dict[str, dict[str, Any]] = {}
    of_light = f"{config.sigma:g}" + f"-headroom-{config.headroom:g}" * (config.headroom < 1)
    kinds = (("whole", config.models, None), ("few", config.few, config.few_images))
    names = ("sigma", "num_samples", "headroom", "data", "image_size", "batch_size", "seed")
    for kind, models, count in kinds:
        for model in models:
            asked = CertifyConfig(
                model=(model,),
                num_images=count,
                out=storage.home() / "runs" / "certificates" / f"{kind}-{of_light}",
                **{name: getattr(config, name) for name in names},
            )
            (run,) = certified.certify_runs(asked)
            name = f"{run.target.name}-{of_light}"
            make = functools.partial(certified.certify_models, asked)
            found[f"{name}, {kind}"] = once(RESULTS / f"{name}-{kind}.json", run, make)
            write(found, of_light)


def write(found: dict[str, dict[str, Any]], of_light: str) -> None:
    """Writes what is known so far.

    Args:
      found: name and kind to what `certificates.json` holds.
      of_light: its strength and the headroom, which name the files.
    """
    one = next(iter(found.values()))
    sizes = [f"RMS {at['rms']:g}" for at in one["rms"]]
    sizes += [f"log-range {at['log_range']:g}" for at in one["log_range"]]
    rows = []
    for name, told in found.items():
        smoothed = told["smoothed"]
        first = [
            name,
            str(told["images"]),
            f"{100 * told['clean']['accuracy']:.1f}",
            f"{100 * smoothed['rate']:.1f}",
            f"{100 * smoothed['abstains']['rate']:.1f}",
        ]
        for kind in certified.KINDS:
            at = [_with_interval(one[kind]) for one in (*told["rms"], *told["log_range"])]
            rows.append([*first, LIGHTS[kind], *at, f"{told['average_radius'][kind]:.3f}"])
    title = (
        "Certified accuracy in % (95 % interval), that of NORMAL and of PNEUMONIA, on chest "
        "X-rays, at root mean squares of the log field and at log-ranges, under random light of "
        f"{one['settings']['sigma']:g}; accuracy "
        "of the bare classifier without light and of its most frequent answer under random light, "
        f"how often none is certain, and the mean certified RMS, 0 of wrong answers. "
        "Each certificate may be wrong with a probability of at most "
        f"{one['settings']['alpha']:g}. {certified.RMS_AND_RANGE}"
    )
    head = ("model", "images", "clean", "smoothed", "abstains", "light", *sizes, "mean")
    tables.write(RESULTS / f"certificates-{of_light}", title, head, rows, found)
    path = RESULTS / f"certificates-{of_light}.png"
    with storage.replacing(path) as temporary:
        certified.panels(list(found.values())).savefig(temporary, format="png", dpi=130)


def _with_interval(at: dict[str, Any]) -> str:
    low, high = at["interval"]
    classes = " and ".join(f"{100 * one['rate']:.0f}" for one in at["by_class"].values())
    return f"{100 * at['rate']:.1f} ({100 * low:.1f} to {100 * high:.1f}), {classes}"


if __name__ == "__main__":
    main(tyro.cli(Config))
