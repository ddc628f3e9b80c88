"""What the figures share: how they are saved, and where their X-rays come from."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
from matplotlib.figure import Figure

from bfjax import storage

CITATION = "X-rays: Kermany, Zhang, Goldbaum (2018), doi 10.17632/rscbjbr9sj.2, CC BY 4.0; altered"
ORANGE = "#D55E00"
"""Of Okabe and Ito's palette: a wrong answer."""


def save(figure: Figure, stem: Path, *, dpi: int = 110) -> None:
    """Writes a figure as PNG, of 256 colours to stay small, and as PDF, the data cited in both.

    Args:
      figure: not yet saved.
      stem: the path without its suffix.
      dpi: of the PNG.
    """
    # room for the citation
    figure.set_layout_engine("constrained", rect=(0, 0.025, 1, 0.975))
    figure.text(0.995, 0.002, CITATION, ha="right", va="bottom", fontsize=_fitting(figure))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi)
    small = (
        PIL.Image.open(picture)
        .convert("RGB")
        .quantize(256, method=PIL.Image.Quantize.MAXCOVERAGE, kmeans=2)
    )
    with storage.replacing(stem.with_suffix(".png")) as temporary:
        small.save(temporary, "PNG", optimize=True)
    with storage.replacing(stem.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, format="pdf", dpi=dpi)


def _fitting(figure: Figure) -> float:
    """The citation's size: narrow figures would cut it off."""
    return min(6, 1.55 * figure.get_figwidth())
