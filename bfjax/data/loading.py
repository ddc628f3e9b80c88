"""`load`: one way to every data set."""

from __future__ import annotations

import os
from pathlib import Path

from bfjax.data.folder import FolderSource
from bfjax.data.image import validate
from bfjax.data.phantom_source import PhantomSource
from bfjax.data.prepared import PreparedSource, prepare
from bfjax.data.source import Source, subsample
from bfjax.storage import home as default_home

_FOLDERS = "nor an existing folder or zip file of class folders"


def load(
    name_or_path: str | os.PathLike[str],
    split: str = "test",
    *,
    image_size: int | None = 224,
    resize: str = "squash",
    home: str | os.PathLike[str] | None = None,
    num_examples: int | None = None,
    seed: int = 0,
    download: bool = False,
    unlabelled: bool = False,
) -> Source:
    """Opens one split of a data set as a random-access source.

    Args:
      name_or_path: `"phantom"`, procedural chest phantoms that need no download; `"chest_xray"`,
        the Kaggle chest X-rays, prepared by TFDS on first use; or the path of a folder, or of a
        zip file, of class folders, read as it is (see `bfjax.data.folder`). A folder that has one
        of the two names is meant by `"./chest_xray"`.
      split: "train", "val" or "test"; "all" for class folders without split folders.
      image_size: side of the square in pixels; `None` for each file's own size.
      resize: `"squash"`, the aspect ratio is not kept, or `"pad"`, it is, on black.
      home: where raw and prepared data lie; by default `BFJAX_HOME`, else the user's cache.
      num_examples: how many records: for phantoms as many as wanted (default 512, 128 and 128),
        elsewhere a random part of the split.
      seed: which phantoms, or which part.
      download: fetch `chest_xray` with kagglehub if it is not there.
      unlabelled: take one image file, or a folder or zip file whose images lie in no class
        folders, too: then `class_names` is empty, and every label -1.

    Returns:
      A `Source`: `len(source)`, `source[i]`, and `class_names`, `labels`, `groups`, `names`
      without decoding an image.

    Raises:
      FileNotFoundError: nothing is there; the message says what to download, or lists the names.
      ValueError: no such split, an unknown policy, a size or number out of range, or (as
        `ImageError`) files that cannot be prepared.

    Example:
      >>> source = load("phantom", "test", num_examples=4, image_size=64)
      >>> len(source), source.class_names
      (4, ('NORMAL', 'PNEUMONIA'))
      >>> record = source[1]
      >>> record["image"].shape, record["label"], record["name"]
      ((64, 64, 1), 1, 'PNEUMONIA/phantom0-test-00001.png')
    """
    validate(image_size, resize)
    if name_or_path == "phantom":
        if image_size is None:
            raise ValueError("phantoms have no native size: image_size must be a number")
        return PhantomSource(split, num_examples=num_examples, image_size=image_size, seed=seed)
    if name_or_path == "chest_xray":
        at = default_home() if home is None else home
        directory = prepare(at, image_size=image_size, resize=resize, download=download)
        return subsample(PreparedSource(directory, split), num_examples, seed=seed)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"no data set {os.fspath(name_or_path)!r}: it is neither 'chest_xray' nor 'phantom', "
            + ("nor an existing image, folder or zip file" if unlabelled else _FOLDERS)
        )
    source = FolderSource(path, split, image_size=image_size, resize=resize, unlabelled=unlabelled)
    return subsample(source, num_examples, seed=seed)
