"""Which images and which model a result is of, and whether they are still the same.

A checkpoint, a PyTorch and an ONNX file are told by their bytes. A Python function or a PyTorch
module is told by its Python module and those of the user's own that it imports; what it reads
elsewhere, such as weights, shows in what it says of a few fixed images.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

import bfjax
from bfjax import data
from bfjax.evaluation.targets import Target, named

# Another device rounds otherwise, with float32 products throughout; other weights change more.
_RELATIVE, _OF_LARGEST = 1e-3, 1e-4
_FOREIGN = ("site-packages", "dist-packages")


IMAGES = "images.parquet"
"""The file beside the settings of a result that names its images; see `bfjax.data.Fingerprint`."""


def same_images(
    folder: Path, before: str | None, now: data.Fingerprint, finished: bool = False
) -> None:
    """Makes sure that the images are those that a result is of.

    Args:
      folder: of the result.
      before: the digest of its images, from its settings; older results have none.
      now: of those there are.
      finished: the result is whole, and only read.

    Raises:
      ValueError: they are others, naming the first few; or it cannot be told, and the result is
        not whole.
    """
    if before is None:
        if finished:
            return
        raise ValueError(
            f"{folder} was begun by a bfjax that did not note which images it was of, so it is not "
            "gone on with: choose another --out"
        )
    if before == now.sha256:
        return
    known = data.read_fingerprint(folder / IMAGES)
    told = "which, its images.parquet would say"
    if known is not None and known.sha256 == before:
        told = data.changes(known, now)
        if len(known.names) != len(now.names):
            told = f"{len(known.names)} then, {len(now.names)} now; {told}"
    raise ValueError(
        f"{folder} holds results of other images: {told}; bring those back, or choose another --out"
    )


def nothing_there(folder: Path, *products: str) -> None:
    """Makes sure that a folder without settings holds nothing that would be gone on with.

    Args:
      folder: of a result that is about to begin.
      products: names of its folders.

    Raises:
      ValueError: one of them holds something.
    """
    for product in products:
        if any((folder / product).glob("*")):
            raise ValueError(
                f"{folder / product} is there, and nothing says what it is of: delete it, or "
                "choose another --out"
            )


def of_target(
    target: Target,
    image_shape: tuple[int, ...],
    image: Float[np.ndarray, "h w c"] | None = None,
) -> dict[str, Any]:
    """What tells a model from others, as the settings of a result hold it.

    Args:
      target: the model.
      image_shape: (h, w, c) of the images it takes.
      image: the first of those that it is asked about.

    Returns:
      As JSON gives it back: "sha256", "architecture", "parts", the digests of what belongs to it
      by name, and, of a Python function, "answers", its logits of fixed images and of that one.

    Raises:
      ValueError: it gives no finite logits of that one, or fails.
    """
    known: dict[str, Any] = {
        "sha256": target.config.sha256,
        "architecture": target.config.architecture,
    }
    if target.programs:
        # so that all devices say the same
        shown = probes(image_shape)
        shown = shown if image is None else np.concatenate([shown, image[None]])
        with named(target), jax.default_matmul_precision("highest"):
            said = np.asarray(_answers(target.predict, shown), np.float64)
        if image is not None and not np.isfinite(said[-1]).all():
            raise ValueError(f"{target.name} gives NaN or infinite logits of the first image")
        known["answers"] = [[z if np.isfinite(z) else None for z in row] for row in said.tolist()]
    # by now a function has also imported what it imports when it is called
    programs = {f"module {k}": v for name in target.programs for k, v in _sources(name).items()}
    return known | {"parts": dict(target.parts) | programs}


@jax.jit
def _answers(predict, images):
    return jax.vmap(predict)(images)


def same_model(
    name: str,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path,
    *,
    way: str = "choose another --out",
) -> None:
    """Makes sure that a model is the one that a result is of.

    Args:
      name: of the model.
      before: as `of_target` gave it then; older results have no more than "sha256".
      now: as it gives it now.
      folder: of the result.
      way: out of it, beside bringing the model back.

    Raises:
      ValueError: it is another one, naming what changed.
    """
    if changed := _changed(before, now):
        raise ValueError(
            f"{folder} holds results of another {name}: {changed}; bring that back, or {way}"
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    # which modules are found depends on what else was imported: those of both are compared
    parts = before.get("parts", {}).keys() & now["parts"].keys()
    if differ := [part for part in sorted(parts) if before["parts"][part] != now["parts"][part]]:
        return f"{', '.join(differ)} changed since"
    if before["sha256"] != now["sha256"]:
        return f"its sha256 was {before['sha256'][:12]}, now it is {now['sha256'][:12]}"
    if "answers" not in before or "answers" not in now:
        return None
    old, new = (np.array(one["answers"], np.float64) for one in (before, now))
    old, new = old[: len(new)], new[: len(old)]  # one may lack the image of the user's own
    if old.shape == new.shape:
        room = _OF_LARGEST * np.nan_to_num(np.abs(old)).max(initial=0)
        if np.allclose(new, old, rtol=_RELATIVE, atol=room, equal_nan=True):
            return None
    return (
        "its program is the same, but not its answers to fixed images (other weights, or it is "
        "random)"
    )


def probes(shape: tuple[int, ...]) -> Float[np.ndarray, "n h w c"]:
    """Fixed images of 8 bits, the same on every machine: noise, two ramps, a disc and its edge.

    Args:
      shape: (h, w, c).

    Returns:
      Some images in [0, 1].
    """
    noise = np.frombuffer(hashlib.shake_128(b"bfjax").digest(int(np.prod(shape))), np.uint8)
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape[:2]), indexing="ij")
    disc = np.exp(-8 * ((x - 0.4) ** 2 + (y - 0.6) ** 2))
    smooth = [np.repeat(np.rint(255 * one)[..., None], shape[2], -1) for one in (x, y, disc)]
    return np.stack([noise.reshape(shape), *smooth]).astype(np.float32) / np.float32(255)


# of modules when they were first seen; another spec tells that one was imported again
_seen: dict[str, tuple[Any, str]] = {}


def _sources(name: str) -> dict[str, str]:
    """The digests of a module and of all others of the user's own that it imports.

    Raises:
      ValueError: one is no longer what this process, a notebook's perhaps, has imported.
    """
    found: dict[str, str] = {}
    left = [name]
    while left:
        for part in _with_parents([left.pop()]):
            module = sys.modules.get(part)
            file = None if module is None or part in found else _own_file(module)
            if module is not None and file is not None:
                found[part] = hashlib.sha256(file.read_bytes()).hexdigest()
                seen = _seen.get(part)
                if seen is None or seen[0] is not module.__spec__:
                    _seen[part] = module.__spec__, found[part]
                elif seen[1] != found[part]:
                    raise ValueError(
                        f"{file} changed since it was imported here: importlib.reload the module "
                        f"{part}, and what imports it, or start Python anew"
                    )
                left += _imports(module, file)
    return found


def _own_file(module: ModuleType) -> Path | None:
    """The file of a module that neither Python nor a package manager nor bfjax brought."""
    path = Path(getattr(module, "__file__", None) or "").resolve()
    roots = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), bfjax.__path__[0]]
    foreign = any(path.is_relative_to(Path(root).resolve()) for root in roots)
    return path if path.is_file() and not foreign and not set(_FOREIGN) & set(path.parts) else None


def _with_parents(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        words = name.split(".")
        yield from (".".join(words[: i + 1]) for i in range(len(words)))


def _imports(module: ModuleType, file: Path) -> Iterator[str]:
    """All that the text of a module imports, wherever it stands; some names are no modules."""
    if file.suffix != ".py":
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level:
                base = importlib.util.resolve_name(base, module.__package__)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(text := node.value, str):
            # for importlib.import_module("b"), (".b", package) and (f"models.{b}")
            if re.fullmatch(r"\.+\w[\w.]*", text) and module.__package__:
                with contextlib.suppress(ImportError):
                    text = importlib.util.resolve_name(text, module.__package__)
            if text in sys.modules:
                yield text
            elif re.fullmatch(r"[\w.]*\w\.", text):
                yield from [name for name in sys.modules if name.startswith(text)]
