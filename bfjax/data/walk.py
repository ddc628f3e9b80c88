"""Which files a folder or a zip file holds.

Convention:
    A path leads from the root to a file or a folder, with forward slashes on every system and in
    every zip file, also in those made with backslashes. Ignored, and nothing else: names that
    begin with a dot, `__MACOSX`, `Thumbs.db` and `desktop.ini`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bfjax.data.dicom import is_dicom
from bfjax.data.identity import Identity, has_image, identity
from bfjax.data.image import ImageError

DICOMDIR = "DICOMDIR"  # the table of contents of a medium with DICOM files (PS3.10, 8.6)

_IGNORED = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_DICOM = {".dcm", ".dicom", ".dic", ".ima"}
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", *_DICOM}
_MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"\0\0\0\x0cjP", b"P5")


class Tree:
    """All files and folders below a root, listed once.

    Args:
      root: a folder or a zip file.

    Attributes:
      root: as given.
      files: path of each file to the name by which the root itself knows it.
      folders: path of each folder.

    Raises:
      FileNotFoundError: `root` does not exist.
      ValueError: it is a file but no zip file, or two of its files have one path.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as root:
      ...     Path(root, "NORMAL", "more").mkdir(parents=True)
      ...     _ = Path(root, "NORMAL", "more", "a.png").write_bytes(b"")
      ...     tree = Tree(Path(root))
      >>> list(tree.files), sorted(tree.folders)
      (['NORMAL/more/a.png'], ['NORMAL', 'NORMAL/more'])
    """

    def __init__(self, root: Path):
        if not root.exists():
            raise FileNotFoundError(f"no such folder or zip file: {root}")
        if not root.is_dir() and not zipfile.is_zipfile(root):
            raise ValueError(f"{root} is neither a folder nor a (whole) zip file")
        self.root, self.files, self.folders = root, {}, set()
        if self._zip is None:
            _list_folder(self, root, "", frozenset([os.path.realpath(root)]))
        else:
            _list_zip(self, self._zip)
        self.files = dict(sorted(self.files.items()))

    @classmethod
    def of_file(cls, path: Path) -> Tree:
        """One file of a folder, as if it held no other.

        Args:
          path: of the file.

        Returns:
          The tree, whose root is the folder.
        """
        tree = cls.__new__(cls)
        tree.root, tree.files, tree.folders = path.parent, {path.name: path.name}, set()
        return tree

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Opens a file.

        Args:
          path: one of `files`.

        Yields:
          The file.

        Raises:
          ImageError: it cannot be opened, or the block cannot read it, or not all of it.
        """
        try:
            if self._zip is None:
                with (self.root / self.files[path]).open("rb") as file:
                    yield file
            else:
                with self._zip.open(self.files[path]) as file:
                    yield file
        except OSError as error:
            raise ImageError(f"{self.root}/{path}: {error.strerror or error}") from error
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
            EOFError,
        ) as error:
            # a checksum that does not fit, damage, an unknown compression, a password, a cut file
            raise ImageError(f"{self.root}/{path}: {error}") from error

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Args:
          path: one of `files`.

        Returns:
          All of them.

        Raises:
          ImageError: it cannot be read, or is damaged within its zip file.
        """
        with self.open(path) as file:
            return file.read()

    def head(self, path: str) -> bytes:
        """The first bytes of a file, as many as tell what kind of file it is.

        Args:
          path: one of `files`.

        Returns:
          At most 132; none where it cannot be read.
        """
        try:
            with self.open(path) as file:
                return file.read(132)
        except ImageError:  # whoever reads all of it says why
            return b""

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return None if self.root.is_dir() else zipfile.ZipFile(self.root)

    def __getstate__(self) -> dict[str, Any]:
        # an open file does not travel to Grain's worker processes; each opens its own
        return {k: v for k, v in self.__dict__.items() if k != "_zip"}

    def folders_in(self, prefix: str) -> list[str]:
        """Names of the folders that lie directly in one.

        Args:
          prefix: path of the folder with a slash behind it; "" for the root.

        Returns:
          Sorted.
        """
        inner = (path[len(prefix) :] for path in self.folders if path.startswith(prefix))
        return sorted(name for name in inner if name and "/" not in name)

    def files_in(self, prefix: str, *, deep: bool = True) -> list[str]:
        """Paths of the files below a folder.

        Args:
          prefix: as of `folders_in`.
          deep: those in folders of this folder, too.

        Returns:
          From that folder, sorted.
        """
        inner = (path[len(prefix) :] for path in self.files if path.startswith(prefix))
        return sorted(path for path in inner if deep or "/" not in path)

    def images_in(self, prefix: str) -> list[str]:
        """Paths of the files below a folder, of exports to a medium only the DICOM images.

        Args:
          prefix: as of `folders_in`.

        Returns:
          From that folder, sorted.
        """
        media = tuple(self.media())
        return [
            name
            for name in self.files_in(prefix)
            if not media or not f"{prefix}{name}".startswith(media) or self._on_medium(prefix, name)
        ]

    def _on_medium(self, prefix: str, name: str) -> bool:
        if name.rpartition("/")[2].upper() == DICOMDIR:
            return False
        path = f"{prefix}{name}"
        if not is_dicom(self.head(path)):
            return False
        with self.open(path) as file:
            return has_image(file)

    def identity(self, path: str) -> Identity | None:
        """What the header of a file says of a person.

        Args:
          path: one of `files`.

        Returns:
          `None` for what is no DICOM.
        """
        head = self.head(path)
        named = Path(path).suffix.lower() in _DICOM and not head.startswith(_MARKS)
        if not named and not is_dicom(head):
            return None
        try:
            with self.open(path) as file:
                return identity(file)
        except ImageError:
            return identity(io.BytesIO())

    def hide(self, path: Path) -> None:
        """Leaves out a file that is no image, if it lies here.

        Args:
          path: of the file.
        """
        if self.root.is_dir() and path.resolve().is_relative_to(self.root.resolve()):
            inner = path.resolve().relative_to(self.root.resolve()).as_posix()
            self.files.pop(inner, None)

    def media(self, prefix: str = "") -> list[str]:
        """Folders that are exports to a medium: those that hold a DICOMDIR.

        Args:
          prefix: only those at or below this folder.

        Returns:
          Each as a prefix.
        """
        ends = (path.rpartition("/") for path in self.files if path.startswith(prefix))
        return [f"{folder}{slash}" for folder, slash, name in ends if name.upper() == DICOMDIR]

    def shows(self, path: str) -> bool:
        """Whether a file is an image, by its ending or its first bytes.

        Args:
          path: one of `files`.

        Returns:
          True for DICOM, PNG, JPEG, TIFF and the like.
        """
        if path.rpartition("/")[2].upper() == DICOMDIR:
            return False
        if Path(path).suffix.lower() in _PICTURES:
            return True
        head = self.head(path)
        return is_dicom(head) or head.startswith(_MARKS)


def _list_folder(tree: Tree, folder: Path, inner: str, above: frozenset[str]) -> None:
    for entry in os.scandir(folder):
        if _ignored(entry.name):
            continue
        path = f"{inner}{entry.name}"
        linked = entry.is_symlink() and Path(entry).is_dir()
        if not linked and not entry.is_dir(follow_symlinks=False):
            tree.files[path] = path
            continue
        real = os.path.realpath(entry)
        if real in above:  # a link to a folder that it lies in
            continue
        if Path(path).suffix.lower() in _PICTURES and not any(os.scandir(entry)):
            tree.files[path] = path  # no folder of images but the ruin of one: reading it says so
            continue
        tree.folders.add(path)
        _list_folder(tree, Path(entry), f"{path}/", above | {real})


def _list_zip(tree: Tree, archive: zipfile.ZipFile) -> None:
    contents: dict[str, tuple[int, int]] = {}
    for entry in archive.infolist():
        name = entry.filename.replace("\\", "/")  # as some programs for Windows write them
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or any(map(_ignored, parts)):
            continue
        tree.folders.update("/".join(parts[:i]) for i in range(1, len(parts)))
        path = "/".join(parts)
        if name.endswith("/"):
            tree.folders.add(path)
        elif tree.files.setdefault(path, entry.filename) != entry.filename:
            raise ValueError(f"{tree.root} holds two files {path}, written differently")
        elif contents.setdefault(path, of := (entry.CRC, entry.file_size)) != of:
            raise ValueError(f"{tree.root} holds two files {path}, with other contents: delete one")


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED
