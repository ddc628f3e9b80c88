"""A folder (or zip file) of class folders, read lazily; or of images alone, or one image.

Convention:
    Either `<root>/<split>/<class>/<file>` with splits among train, val and test, or
    `<root>/<class>/<file>`, whose one split is called "all". Where asked for, `<class>/` may be
    missing, or the root be a file: these images have no labels (-1). A root that holds nothing but
    one folder of folders (what unzipping often makes) stands for that folder; beside split folders
    everything else is ignored (Kaggle's zip holds the whole tree a second time there).

    Ignored, and nothing else: names that begin with a dot, `__MACOSX`, `Thumbs.db`,
    `desktop.ini`, and files that lie beside class or split folders. Every other file in a class
    folder (or where there are none) is a record, DICOM told by its mark and not by its name; if it
    is no image, reading it raises an `ImageError` that names it.
"""

from __future__ import annotations

import functools
import os
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int64

from bfjax.data.dicom import decode_dicom, is_dicom
from bfjax.data.image import ImageError, decode, fit, validate
from bfjax.data.names import parse_name
from bfjax.data.source import Original, Record, Source

SPLITS = ("train", "val", "test")

_IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}

_Node: TypeAlias = Path | zipfile.Path


class FolderSource(Source):
    """The images of one split of a folder, or of a zip file.

    Nothing but names is read until a record is. The labels follow the sorted names of the class
    folders of all splits, so that a split that lacks a class keeps the others' labels.

    Args:
      root: the folder or zip file.
      split: "train", "val" or "test"; "all" where there are no split folders.
      image_size: side of the square in pixels, or `None` for each image's own size.
      resize: `"squash"` or `"pad"`, see `bfjax.data.fit`.
      unlabelled: take one image, or images that lie in no class folders, too; `class_names` is
        then empty and every label -1. `split` says nothing then, nor where there is only one class
        folder, unless there are split folders.

    Attributes:
      split: as given.

    Raises:
      FileNotFoundError: `root` does not exist.
      ValueError: there is no such split (the message lists those there are), `root` is no folder
        of class folders, or a class folder holds another folder or no file at all.

    Example:
      >>> import pathlib, tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as root:
      ...     for label in ("NORMAL", "PNEUMONIA"):
      ...         pathlib.Path(root, label).mkdir()
      ...         Image.new("L", (30, 20)).save(pathlib.Path(root, label, "a.png"))
      ...     source = FolderSource(root, "all", image_size=8)
      ...     print(source.names, source[1]["image"].shape, source[1]["label"])
      ['NORMAL/a.png', 'PNEUMONIA/a.png'] (8, 8, 1) 1
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        image_size: int | None = 224,
        resize: str = "squash",
        unlabelled: bool = False,
    ):
        validate(image_size, resize)
        self._root, self.split = Path(root), split
        self._image_size, self._resize = image_size, resize
        if unlabelled and _is_image(self._root):
            self._root, self._prefix = self._root.parent, ""
            self.class_names, self._names = (), [Path(root).name]
            return
        splits = _layout(self._root)
        classes = {name for node in splits.values() for name in _folders(node)}
        if unlabelled and len(classes) < 2 and list(splits) == ["all"]:
            split = "all"
        if split not in splits:
            raise ValueError(f"{root} has no split {split!r}; it has {', '.join(splits)}")
        self._prefix = _relative(splits[split], self._root)
        self.class_names = tuple(sorted(classes))
        if classes:
            self._names = _files(splits[split])
        elif unlabelled:
            self._names = sorted(n.name for n in splits[split].iterdir() if not _ignored(n.name))
        else:
            raise ValueError(f"{root} holds no class folders (such as NORMAL and PNEUMONIA)")
        if not self._names:
            where = "the class folders of " if classes else ""
            raise ValueError(f"{where}{root}, split {split!r}, hold no files")

    @property
    def names(self) -> list[str]:
        """Name of every record, in order: class folder, slash, file; or the file alone."""
        return self._names

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order."""
        index = {name: i for i, name in enumerate(self.class_names)}
        return np.array([index.get(n.partition("/")[0], -1) for n in self._names], np.int64)

    @functools.cached_property
    def groups(self) -> list[str]:
        """Patient of every record, in order."""
        return [parse_name(name)[1] for name in self._names]

    def original(self, index: int) -> Original:
        """The image of a file, and the file itself where it is DICOM; see `Source.original`."""
        name = self._names[index]
        data, path = self._read(name), f"{self._root}/{self._prefix}{name}"
        if is_dicom(data):
            return Original(decode_dicom(data, path), data)
        return Original(decode(data, path))

    def content(self, index: int) -> bytes:
        """The file as it is."""
        return self._read(self._names[index])

    def _record(self, index: int) -> Record:
        name = self._names[index]
        cause, group = parse_name(name)
        image = self.original(index).image
        return Record(
            image=fit(image, image_size=self._image_size, resize=self._resize),
            label=int(self.labels[index]),
            name=name,
            cause=cause,
            group=group,
        )

    def _read(self, name: str) -> bytes:
        if self._zip is None:
            return (self._root / f"{self._prefix}{name}").read_bytes()
        try:
            return self._zip.read(f"{self._prefix}{name}")
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            # a checksum that does not fit, an unknown compression, a password, a cut file
            raise ImageError(f"{self._root}/{self._prefix}{name}: {error}") from error

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return None if self._root.is_dir() else zipfile.ZipFile(self._root)

    def __len__(self) -> int:
        return len(self._names)

    def __getstate__(self) -> dict[str, Any]:
        # an open file does not travel to Grain's worker processes; each opens its own
        return {k: v for k, v in self.__dict__.items() if k != "_zip"}

    def __repr__(self) -> str:
        return (
            f"FolderSource({str(self._root)!r}, {self.split!r}, "
            f"image_size={self._image_size}, resize={self._resize!r})"
        )


def _is_image(root: Path) -> bool:
    """Whether a path is for the decoders: no folder, no zip file, and not the half of one."""
    return root.is_file() and root.suffix.lower() != ".zip" and not zipfile.is_zipfile(root)


def splits_of(root: str | os.PathLike[str]) -> tuple[str, ...]:
    """The splits that a folder or zip file of class folders has.

    Args:
      root: the folder or zip file.

    Returns:
      Those of "train", "val", "test" that are there, else `("all",)`.

    Raises:
      FileNotFoundError: `root` does not exist.
      ValueError: `root` is a file but no zip file.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as root:
      ...     splits_of(root)
      ('all',)
    """
    return tuple(_layout(Path(root)))


def _layout(root: Path) -> dict[str, _Node]:
    """The split folders by name, or the one folder of class folders as "all"."""
    if not root.exists():
        raise FileNotFoundError(f"no such folder or zip file: {root}")
    node: _Node = root
    if not root.is_dir():
        if not zipfile.is_zipfile(root):
            raise ValueError(f"{root} is neither a folder nor a (whole) zip file")
        node = zipfile.Path(root)
    while True:
        folders = _folders(node)
        if splits := {name: folders[name] for name in SPLITS if name in folders}:
            return splits
        inner = next(iter(folders.values()), None)
        if len(folders) != 1 or inner is None or not _folders(inner):
            return {"all": node}
        node = inner


def _folders(node: _Node) -> dict[str, _Node]:
    return {n.name: n for n in node.iterdir() if n.is_dir() and not _ignored(n.name)}


def _files(split: _Node) -> list[str]:
    """`class/file` for every file of a split, sorted."""
    names = []
    for label, folder in _folders(split).items():
        for node in folder.iterdir():
            if _ignored(node.name):
                continue
            if node.is_dir():
                raise ValueError(f"{node} is a folder within a class folder; move its files up")
            names.append(f"{label}/{node.name}")
    return sorted(names)


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED


def _relative(node: _Node, root: Path) -> str:
    """Path of a node within the root, "" or ending in a slash."""
    if isinstance(node, zipfile.Path):
        return node.at
    relative = node.relative_to(root).as_posix()
    return "" if relative == "." else f"{relative}/"
