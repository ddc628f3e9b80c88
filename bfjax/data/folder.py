"""A folder (or zip file) of class folders, read lazily; or of images alone, or one image.

Convention:
    Either `<root>/<split>/<class>/<path>` with splits among train, val and test, or
    `<root>/<class>/<path>`, whose one split is called "all"; `<path>` may lead through further
    folders. Where asked for, `<class>/` may be missing, or the root be a file: these images have no
    labels (-1). Where a CSV file has the labels, all folders are only folders. What lies beside
    class or split folders is ignored.

    Every other file in a class folder (or where there are none) is a record, DICOM told by its mark
    and not by its name; if it is no image, reading it raises an `ImageError` that names it. Of a
    folder that holds a DICOMDIR, an export to a medium, only DICOM images are taken; where labels
    may be missing, its folders are no classes. Nor are folders that are all named after patients.
"""

from __future__ import annotations

import functools
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from bfjax.data import labels as tables
from bfjax.data.dicom import decode_dicom, is_dicom
from bfjax.data.identity import Identity, digest, tells
from bfjax.data.image import ImageError, decode, fit, validate
from bfjax.data.layout import images_beside, layout
from bfjax.data.names import in_order, parse_name, tells_patient
from bfjax.data.source import Original, Record, Source
from bfjax.data.walk import Tree

_FIRST = 20  # files of a folder: enough to see whether it is a patient's


class FolderSource(Source):
    """The images of one split of a folder, or of a zip file.

    Nothing but names is read until a record is. The labels follow the names of the class folders
    of all splits, in order (numbers as numbers, see `bfjax.data.names.in_order`), so that a split
    that lacks a class keeps the others' labels.

    Args:
      root: the folder or zip file.
      split: "train", "val" or "test"; "all" where there are no split folders.
      image_size: side of the square in pixels, or `None` for each image's own size.
      resize: `"squash"` or `"pad"`, see `bfjax.data.fit`.
      unlabelled: take one image, or images that lie in no class folders, too; `class_names` is
        then empty and every label -1. `split` says nothing then, nor where there is only one class
        folder, unless there are split folders.
      labels: a CSV file of classes, see `bfjax.data.labels.read_labels`; no folder is a class then.
      groups: a CSV file of patients, see `bfjax.data.labels.read_groups`.
      class_names: names of the folders, or of the columns of `labels`, that are classes, where that
        is not clear.

    Attributes:
      split: as given.

    Raises:
      FileNotFoundError: `root` or a CSV file does not exist.
      ValueError: there is no such split (the message lists those there are), `root` is no folder
        of class folders, holds no file at all, or a CSV file does not fit.

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
        labels: str | os.PathLike[str] | None = None,
        groups: str | os.PathLike[str] | None = None,
        class_names: Sequence[str] = (),
    ):
        validate(image_size, resize)
        self.split, self._image_size, self._resize = split, image_size, resize
        self._root, self._findings = Path(root), None
        self._groups = None if groups is None else Path(groups)
        one = unlabelled and _is_image(self._root)
        self._tree = Tree.of_file(self._root) if one else Tree(self._root)
        for table in (labels, groups):
            if table is not None:  # which may lie beside the images
                self._tree.hide(Path(table))
        splits = {"all": ""} if one else layout(self._tree, class_names=tuple(class_names))
        folders = {name for prefix in splits.values() for name in self._tree.folders_in(prefix)}
        loose = labels is not None or (
            unlabelled and self._has_no_classes(splits, folders, class_names)
        )
        if unlabelled and list(splits) == ["all"] and (loose or len(folders) < 2):
            split = "all"
        if split not in splits:
            raise ValueError(f"{root} has no split {split!r}; it has {', '.join(splits)}")
        self._prefix = splits[split]
        files = self._tree.images_in(self._prefix)
        self.class_names = () if loose else tuple(in_order(folders))
        if labels is not None:
            read = tables.read_labels(
                Path(labels), self._tree, self._prefix, files, columns=class_names
            )
            self.class_names, files = read.class_names, read.files
            self.labels, self._findings = read.labels, read.findings
        elif not loose:
            if not unlabelled and folders != {*class_names} and self._are_persons(splits):
                raise ValueError(
                    f"the folders of {root} are named after the patients on their images: these "
                    "are no classes; a CSV file of labels says them"
                )
            files = self._in_classes(files)
        for path in files:
            if not path.isprintable():
                _check_name(f"{root}/{path}")
        self._files, self._in_folders = files, not loose
        if not self._files:
            where = "" if loose else "the class folders of "
            raise ValueError(f"{where}{root}, split {split!r}, hold no files")

    def _has_no_classes(
        self, splits: dict[str, str], folders: set[str], class_names: Sequence[str]
    ) -> bool:
        if not folders:
            return True
        if folders == {*class_names}:
            return False
        roots = splits.values()
        if any(prefix in self._tree.media(prefix) for prefix in roots):
            return True
        if self._are_persons(splits):
            return True
        return len(folders) == 1 and any(images_beside(self._tree, prefix) for prefix in roots)

    def _are_persons(self, splits: dict[str, str]) -> bool:
        """Whether each folder is named after whom the headers of its first DICOM files tell."""
        first: dict[str, list[str]] = {}
        for prefix in splits.values():
            for path in self._tree.images_in(prefix):
                folder, inside, _ = path.partition("/")
                if inside and len(first.setdefault(folder, [])) < _FIRST:
                    first[folder].append(f"{prefix}{path}")

        def is_person(folder: str) -> bool:
            headers = (self._tree.identity(path) for path in first[folder])
            told = (tells(folder, who) for who in headers if who and who.certain)
            return next(told, False) and all(told)

        return bool(first) and all(map(is_person, first))

    def _in_classes(self, files: list[str]) -> list[str]:
        if not self.class_names:
            raise ValueError(
                f"{self._root} holds no class folders (such as NORMAL and PNEUMONIA), and no CSV "
                "file of labels is given"
            )
        if beside := images_beside(self._tree, self._prefix):
            warnings.warn(
                f"{len(beside)} images of {self._root} are left out, such as {beside[0]}: they lie "
                f"beside the class folders {', '.join(self.class_names)}",
                stacklevel=2,
            )
        return [name for name in files if "/" in name]

    @property
    def names(self) -> list[str]:
        """Name of every record, in order: its path from the class folders, or where there are none.

        With them it begins with the class folder. Of a DICOM file whose path tells what its header
        says of a person, or a UID, the rest is "dicom-", the first 16 digits of the SHA-256 of the
        file, and ".dcm".
        """
        return self._known[0]

    @functools.cached_property
    def _known(self) -> tuple[list[str], list[str]]:
        """Names and patients that may be shown: of DICOM files the headers decide."""
        names: list[str] = []
        groups: list[str] = []
        taken = set(self._files)
        for i, (path, who) in enumerate(zip(self._files, self._identities, strict=True)):
            of_class, slash, inner = path.partition("/") if self._in_folders else ("", "", path)
            hidden = who is not None and tells(inner, who)
            name, group = path, parse_name(path)[1]
            if hidden:
                name = f"{of_class}{slash}{self._anonymous(i)}"
                while name in taken:  # the same file twice
                    name = f"{name.removesuffix('.dcm')}-again.dcm"
            if tells_patient(path, group):
                group = digest(group) if hidden else group
            else:
                group = (who.patient if who else "") or (name if hidden else group)
            taken.add(name)
            names.append(name)
            groups.append(group)
        return names, groups

    @functools.cached_property
    def _identities(self) -> list[Identity | None]:
        return [self._tree.identity(f"{self._prefix}{path}") for path in self._files]

    def _anonymous(self, index: int) -> str:
        try:
            return f"dicom-{digest(self.content(index))}.dcm"
        except ImageError:  # whoever reads it says why
            return f"dicom-unreadable-{index}.dcm"

    def public(self, path: str) -> str:
        """A path to the root, its folders and file as far as they do not tell a person."""
        everybody = {who for who in self._identities if who and who.certain}
        parts = [
            "anonymous" if any(tells(part, who) for who in everybody) else part
            for part in Path(path).parts
        ]
        if self._files == [self._root.name] == [Path(path).name]:  # the one file itself
            parts[-1] = self.names[0]
        return path if parts == list(Path(path).parts) else str(Path(*parts))

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order."""
        index = {name: i for i, name in enumerate(self.class_names)}
        return np.array([index.get(n.partition("/")[0], -1) for n in self._files], np.int64)

    @property
    def findings(self) -> Int64[np.ndarray, "records classes"] | None:
        """Of a CSV file in which several classes may be true of an image; else `None`."""
        return self._findings

    @functools.cached_property
    def groups(self) -> list[str]:
        """Patient of every record, in order."""
        if self._groups is not None:
            return tables.read_groups(self._groups, self._tree, self._prefix, self._files)
        return self._known[1]

    def path(self, index: int) -> str:
        """Where the file of a record lies."""
        return f"{self._tree.root}/{self._prefix}{self._files[index]}"

    def content(self, index: int) -> bytes:
        """The file of a record."""
        return self._tree.read(f"{self._prefix}{self._files[index]}")

    def original(self, index: int) -> Original:
        """The image of a file, and the file itself where it is DICOM; see `Source.original`."""
        data, path = self.content(index), self.path(index)
        if is_dicom(data):
            return Original(decode_dicom(data, path), data)
        return Original(decode(data, path))

    def _record(self, index: int) -> Record:
        image = self.original(index).image
        return Record(
            image=fit(image, image_size=self._image_size, resize=self._resize),
            label=int(self.labels[index]),
            name=self.names[index],
            cause=parse_name(self._files[index])[0],
            group=self.groups[index],
        )

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return (
            f"FolderSource({str(self._root)!r}, {self.split!r}, "
            f"image_size={self._image_size}, resize={self._resize!r})"
        )


def _is_image(root: Path) -> bool:
    """Whether a path is for the decoders: no folder, no zip file, and not the half of one."""
    return root.is_file() and root.suffix.lower() != ".zip" and not zipfile.is_zipfile(root)


def _check_name(path: str) -> None:
    """No record can hold a name that is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path!a}: no name in UTF-8, rename the file or folder") from error
