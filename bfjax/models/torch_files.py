"""Files of PyTorch networks: those of `torch.export.save` are read, all others are refused.

A `.pt2` file is a zip file of JSON, which has the graph, and of raw weights. `torch.export.load`
would unpickle parts of it, and evaluate others as Python. Those are left out here or, where the
network needs them, refused, so that a file runs nothing but the operators that it names.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from bfjax.models import torch_refusals
from bfjax.models.onnx import Imported
from bfjax.models.torch_export import from_torch, quietly

SUFFIXES = (".pt2", ".pt", ".pth", ".ckpt", ".bin")
"""What files of PyTorch are usually called."""
_SAVE = (
    "torch.export.save(torch.export.export(net.eval(), (torch.zeros(1, 1, 224, 224),)), "
    '"net.pt2"), with the channels and the size that it takes'
)
_Kind = Literal["program", "older program", "script", "pickle"]


def load_torch(path: str | Path, *, image_size: int | None = None) -> Imported:
    """Reads a classifier from a file of `torch.export.save`, by `from_torch`.

    Args:
      path: the file, such as ``net.pt2``.
      image_size: side of the images, for a network that was exported for any.

    Returns:
      The network, and the side of its images.

    Raises:
      ImportError: PyTorch is not installed.
      FileNotFoundError: there is no such file.
      ValueError: it is TorchScript, a pickle or damaged; it would run code when it is read; or
        `from_torch` refuses the network.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    _refuse(Path(path))
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"{path}: PyTorch files need torch: pip install 'bfjax[torch]'"
        ) from error
    try:
        archive = _harmless(Path(path))
        with quietly():
            program = torch.export.load(archive)
        predict = from_torch(program, image_size=image_size)
        _, *sides = torch_refusals.declared(torch, program, None, image_size)
    except Exception as error:  # of a damaged file PyTorch raises many kinds
        told = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(f"{path} cannot be used: {told}") from error
    if sides[0] != sides[1]:
        raise ValueError(f"{path} takes images of {sides[0]} x {sides[1]}, not square")
    return Imported(predict, sides[0])


def is_torch_file(path: Path) -> bool:
    """Whether a file is PyTorch's, by its name or by what is in it.

    Args:
      path: of anything.

    Returns:
      Whether `load_torch` reads it, or says why not.
    """
    if path.is_dir():  # a checkpoint of bfjax may have any name
        return False
    return path.suffix in SUFFIXES or (path.is_file() and _kind(path) is not None)


def _kind(path: Path) -> _Kind | None:
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                whole = archive.namelist()
        except zipfile.BadZipFile:  # its list is damaged
            return None
        names = {name.partition("/")[2] for name in whole}
        if any(name.startswith("code/") for name in names):
            return "script"
        if "data.pkl" in names:
            return "pickle"
        if "archive_format" in names:
            return "program"
        return "older program" if "serialized_exported_program.json" in whole else None
    with path.open("rb") as stream:
        begins = stream.read(2)
    return "pickle" if len(begins) == 2 and begins[0] == 0x80 and 2 <= begins[1] <= 5 else None


def _refuse(path: Path) -> None:
    kind = _kind(path)
    if kind == "program":
        return
    told = {
        "script": "is TorchScript: load the network in PyTorch as a module",
        "pickle": "is a pickle, which may run any code when it is read: make the network in "
        "PyTorch, load its weights",
        "older program": "was written by PyTorch 2.7 or older: export the network with a newer one",
        None: "is no file of torch.export.save: make the network in PyTorch",
    }[kind]
    raise ValueError(f"{path} {told}, and save it with {_SAVE}")


_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+"
    r"|data/(?:weights|constants)/(?:weight|tensor)_\d+"
)
"""Parts that hold numbers or a word, and are read as they are."""


def _harmless(path: Path) -> io.BytesIO:
    """The archive without what PyTorch would unpickle or evaluate.

    What is kept is listed: PyTorch finds a part in capital letters too, and unpickles some that no
    network needs.
    """
    kept: dict[str, bytes] = {"data/sample_inputs/model.pt": b""}  # pickled, and needed by nobody
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]  # as PyTorch takes it
        for name in archive.namelist():
            folder, _, part = name.partition("/")
            if folder != root:
                continue
            content = archive.read(name)
            if re.match(r"data/(weights|constants)/.*\.pt$|data/aotinductor/", part):
                raise ValueError(
                    f"its {part} is pickled or compiled code, which is not read: export it anew, "
                    "with a newer PyTorch"
                )
            if re.fullmatch(r"data/(weights|constants)/\w+_config\.json", part):
                _check_weights(json.loads(content)["config"])
            elif part == "models/model.json":
                content = json.dumps(_checked(json.loads(content))).encode()
            elif not _PLAIN.fullmatch(part):
                continue
            kept[part] = content
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as harmless:
        for part, content in kept.items():
            harmless.writestr(f"{root}/{part}", content)
    made.seek(0)
    return made


def _check_weights(config: dict[str, Any]) -> None:
    for name, about in config.items():
        if about["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", about["path_name"]):
            raise ValueError(f"its {name} is pickled, which is not read: export plain tensors")


def _checked(model: dict[str, Any]) -> dict[str, Any]:
    """The graph without remarks and guards, if all of its texts are what they seem."""
    model["guards_code"] = []
    for node in model["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    for key, text in _texts(model):
        runs = "default_factory" in text or "__enum__" in text  # in a spec they name what to import
        if runs or not re.fullmatch(_FORMS.get(key, r"[\w.+-]*"), text):
            raise ValueError(f"its {key} {text[:60]!r} may be code, which is not evaluated")
    return model


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts within a JSON value, the keys too, each with what it is called."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield "key", name
            yield from _texts(inner, name)


_SYMBOL = r"Symbol\('\w+'(?:, \w+=True)*\)"
_SPEC = r'(?:[\w.\[\]{}":, -]|\\+")*'  # JSON within JSON, without escaped letters
_FORMS = {
    "target": r"torch\.ops\.[a-z]\w*\.(?!__)\w+(?:\.(?!__)\w+)?"
    r"|torch\.ops\.aten\.__(?:and|or|xor|lshift|rshift)__\.\w+"
    r"|_operator\.(?:getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|torch\.sym_\w+",
    "expr_str": rf"(?:{_SYMBOL}|Integer|Add|Mul|Pow|Mod|FloorDiv|[su]\d+|\d|[-+*/(), ])*",
    "in_spec": _SPEC,
    "out_spec": _SPEC,
    "as_string": r"[\w.,>+ -]*",  # of einsum, too
}
"""What the texts of a graph look like, by their keys; other texts are names."""
