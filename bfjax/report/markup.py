"""What all pages have in common: templates, their policy, data for their scripts, colour bars."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

from bfjax.report import pictures

_HERE = Path(__file__).parent


@functools.cache
def templates() -> jinja2.Environment:
    """The templates of this package, which escape whatever they are given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["digest"] = digest
    return environment


def read(name: str) -> str:
    """A file of this package.

    Args:
      name: its path within.

    Returns:
      Its text.
    """
    return (_HERE / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """As a Content-Security-Policy names the one style or script that it allows.

    Args:
      text: the style or script.

    Returns:
      Its hash.

    Example:
      >>> digest("")
      'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def island(value: dict[str, Any]) -> str:
    r"""The data of a script, as JSON that no HTML parser can mistake for markup.

    Args:
      value: the data.

    Returns:
      ASCII only.

    Raises:
      ValueError: for NaN or infinities, which JSON cannot hold.

    Example:
      >>> print(island({"a": "</script>"}))
      {"a":"\u003c/script\u003e"}
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def colours(name: str, count: int) -> list[str]:
    """A colour map as a style sheet or a script names its colours.

    Args:
      name: Matplotlib's.
      count: how many, from its beginning to its end.

    Returns:
      Such as "#7f3b08".
    """
    return [hexadecimal(colour) for colour in matplotlib.colormaps[name](np.linspace(0, 1, count))]


def hexadecimal(colour: np.ndarray) -> str:
    """A colour as a style sheet names it.

    Args:
      colour: red, green and blue in [0, 1]; more is ignored.

    Returns:
      Such as "#7f3b08".

    Example:
      >>> hexadecimal(np.array([1.0, 0.0, 0.5]))
      '#ff0080'
    """
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3].tolist())


def bars() -> str:
    """Rules for the colour bars under the pictures."""
    names = {"diverging": pictures.DIVERGING, "sequential": pictures.SEQUENTIAL}
    return "".join(
        f".bar.{kind}{{background:linear-gradient(to right,{','.join(colours(name, 17))})}}\n"
        for kind, name in names.items()
    )
