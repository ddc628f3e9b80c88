"""What certificates prove, for a page: a table of models, and certified accuracy as SVG."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from bfjax.evaluation.certified import KINDS, read_certificates
from bfjax.report import curves
from bfjax.report.standard import figure
from bfjax.report.standard.cells import architecture, cell, share
from bfjax.report.standard.loading import named_apart

LIGHTS = {"radius": "not clipped", "safe_radius": "clipped too"}
"""The light that each kind of radius is of, see `bfjax.robustness.certify`."""
_NUMBERS = {"radius": 0, "safe_radius": 3}
_CLEAN = 2


class Proven(NamedTuple):
    """One model's certificates.

    Attributes:
      name: of the model, and where it lies if another one has that name.
      found: what its certificates.json holds.
    """

    name: str
    found: dict[str, Any]


def load_proven(folder: Path) -> list[Proven]:
    """All certificates of a folder.

    Args:
      folder: of one certified model, of one run of `bfjax certify`, or one in which those lie.

    Returns:
      The certificates, the model first whose mean certified radius is largest; perhaps none.

    Raises:
      ValueError: naming the certificates.json that is broken or too new.
    """
    paths = sorted(path.parent for path in folder.rglob("certificates.json"))
    all_found = [read_certificates(path / "certificates.json") for path in paths]
    names = named_apart([found["model"].get("name", "") for found in all_found], paths, folder)
    proven = [Proven(name, found) for name, found in zip(names, all_found, strict=True)]
    return sorted(proven, key=lambda one: -one.found["average_radius"]["radius"])


def differ(proven: Sequence[Proven]) -> list[str]:
    """What keeps certificates from being compared with each other.

    Args:
      proven: the certificates.

    Returns:
      Settings that are not the same in all.
    """
    settings = {"images": "images", "split": "split", "sigma": "random light",
                "encoding": "encoding", "gamma": "grey levels", "alpha": "chance of error",
                "num_samples": "number of random lights", "headroom": "headroom"}  # fmt: skip
    return [
        told
        for name, told in settings.items()
        if len({one.found["settings"].get(name) for one in proven}) > 1
    ]


def plot(one: Proven, *, identity: str) -> tuple[str, list[tuple[str, str]]]:
    """Draws certified accuracy against the root mean square of the light.

    Args:
      one: the certificates.
      identity: begins the `id`s within.

    Returns:
      An SVG element, and for the legend a stroke and a name of each curve.
    """
    found = one.found
    end = 1.05 * max(found["reach"], *(at["rms"] for at in found["rms"]))
    svg = curves.drawing(
        f"Certified accuracy of {one.name} against the root mean square of the light",
        describe(one),
        identity=identity,
    )
    sizes = [at["rms"] for at in found["rms"]]
    curves.axes(svg, figure.numbers(sizes, end), "root mean square of the light's log field")
    legend = []
    for kind in KINDS:
        part, curve = figure.group(svg, _NUMBERS[kind]), found["curve"][kind]
        figure.line(part, figure.steps(curve["rms"], curve["accuracy"], end), end)
        for at in found["rms"]:
            x, y = figure.place(at["rms"], end), curves.height(at[kind]["rate"])
            curves.marker(part, _NUMBERS[kind], x, y)
        legend.append((curves.key(_NUMBERS[kind]), f"certified, light {LIGHTS[kind]}"))
    clean = found["clean"]["accuracy"]
    figure.line(figure.group(svg, _CLEAN), [(0.0, clean), (end, clean)], end)
    legend.append((curves.key(_CLEAN), "bare model, no light"))
    return ElementTree.tostring(svg, encoding="unicode"), legend


def describe(one: Proven) -> str:
    """What the figure shows, in words.

    Args:
      one: the certificates.

    Returns:
      Certified accuracy at each root mean square.
    """
    sentences = []
    for kind, light in LIGHTS.items():
        rates = [f"{100 * at[kind]['rate']:.0f} % at {at['rms']:g}" for at in one.found["rms"]]
        sentences.append(f"Certified, light {light}: {', '.join(rates)}.")
    return " ".join(sentences)


def section(proven: Sequence[Proven]) -> dict[str, Any]:
    """What the page shows of certificates.

    Args:
      proven: at least one.

    Returns:
      What the template takes: tables of those with the same columns, and the figures.
    """
    columns: dict[tuple[Any, ...], list[Proven]] = collections.defaultdict(list)
    for one in proven:
        sizes = [at["rms"] for at in one.found["rms"]]
        columns[*sizes, None, *(at["log_range"] for at in one.found["log_range"])].append(one)
    plots = [(one.name, *plot(one, identity=f"proof-{k}")) for k, one in enumerate(proven)]
    return {
        "differ": differ(proven),
        "tables": [_table(some) for some in columns.values()],
        "figures": [{"name": name, "svg": svg, "keys": keys} for name, svg, keys in plots],
        "chances": [f"{one.name}: {one.found['chance']}" for one in proven],
        "means": proven[0].found.get("means", ""),  # not in older ones
        "not_covered": proven[0].found["not_covered"],
    }


def _table(proven: Sequence[Proven]) -> dict[str, Any]:
    found = proven[0].found
    return {
        "rms": [f"{at['rms']:g}" for at in found["rms"]],
        "log_ranges": [f"{at['log_range']:g}" for at in found["log_range"]],
        "rows": [_row(one.name, one.found) for one in proven],
    }


def _row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    smoothed = found["smoothed"]
    places = (*found["rms"], *found["log_range"])
    lights = [
        (
            told,
            [share(at[kind]["rate"], at[kind]["interval"]) for at in places],
            f"{found['average_radius'][kind]:.3f}",
        )
        for kind, told in LIGHTS.items()
    ]
    return {
        "name": name,
        "architecture": architecture(name, found),
        "images": found["images"],
        "sigma": f"{found['settings']['sigma']:g}",
        "clean": cell(found["clean"], "accuracy"),
        "smoothed": share(smoothed["rate"], smoothed["interval"]),
        "abstains": share(smoothed["abstains"]["rate"]),
        "lights": lights,
    }
