"""Which folders are splits, and in which folder the class folders or images lie."""

from __future__ import annotations

import os
from pathlib import Path

from bfjax.data.walk import Tree

SPLITS = ("train", "val", "test")


def layout(tree: Tree, *, class_names: tuple[str, ...] = ()) -> dict[str, str]:
    """The split folders, or the one folder of class folders or images.

    A root that holds nothing but one folder of folders (what unzipping often makes) stands for
    that folder. Beside split folders everything else is ignored (Kaggle's zip holds the whole tree
    a second time there).

    Args:
      tree: of the root.
      class_names: folders that are classes, and stand for themselves.

    Returns:
      Prefix of each of "train", "val" and "test" that is there; else of the folder, as "all".
    """
    prefix = ""
    while True:
        names = tree.folders_in(prefix)
        if splits := {name: f"{prefix}{name}/" for name in SPLITS if name in names}:
            return splits
        if len(names) != 1 or names[0] in class_names or prefix in tree.media(prefix):
            return {"all": prefix}
        inner = f"{prefix}{names[0]}/"
        if not tree.folders_in(inner) and inner not in tree.media(inner):
            return {"all": prefix}
        if images_beside(tree, prefix) or images_beside(tree, inner):
            return {"all": prefix}
        prefix = inner


def images_beside(tree: Tree, prefix: str) -> list[str]:
    """Images that lie in a folder itself, beside its folders.

    Args:
      tree: of the root.
      prefix: path of the folder with a slash behind it; "" for the root.

    Returns:
      Their names.
    """
    own = tree.files_in(prefix, deep=False)
    return [name for name in own if tree.shows(f"{prefix}{name}")]


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
    return tuple(layout(Tree(Path(root))))
