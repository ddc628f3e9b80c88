"""When, on what and with which versions a result was computed."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


def environment() -> dict[str, Any]:
    """When, on what and with which versions: what a result needs to be believed.

    Returns:
      What JSON can hold.
    """
    device = jax.devices()[0]
    packages = ("bfjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {device.platform} ({device.device_kind})",
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _processor() -> str:
    """The name of the CPU, which Python itself does not know on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [x.partition(":")[2].strip() for x in text.splitlines() if x.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()
