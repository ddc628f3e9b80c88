"""`load`: one way to every data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from bfjax.data.folder import FolderSource
from bfjax.data.image import validate
from bfjax.data.names import renamings
from bfjax.data.phantom_source import PhantomSource
from bfjax.data.prepared import PreparedSource, prepare
from bfjax.data.source import Source
from bfjax.data.views import Ordered, subsample
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
    labels: str | os.PathLike[str] | None = None,
    groups: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] = (),
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
      labels: a CSV file of a header, then a row an image: its file name, and 0 or 1 for each class
        (see `bfjax.data.labels`). Where several classes may be true of an image, its label is -1,
        and the source has `findings`.
      groups: a CSV file of the images' patients, where names do not tell them.
      class_names: the classes in the order of the labels, all of them; of the columns of `labels`
        those that are classes.

    Returns:
      A `Source`: `len(source)`, `source[i]`, and `class_names`, `labels`, `findings`, `groups`,
      `names` without decoding an image.

    Raises:
      FileNotFoundError: nothing is there; the message says what to download, or lists the names.
      ValueError: no such split, an unknown policy, a size or number out of range, other classes, a
        CSV file that does not fit, or (as `ImageError`) files that cannot be prepared.

    Example:
      >>> source = load("phantom", "test", num_examples=4, image_size=64)
      >>> len(source), source.class_names
      (4, ('NORMAL', 'PNEUMONIA'))
      >>> record = source[1]
      >>> record["image"].shape, record["label"], record["name"]
      ((64, 64, 1), 1, 'PNEUMONIA/phantom0-test-00001.png')
    """
    validate(image_size, resize)
    own = name_or_path in ("phantom", "chest_xray")
    if own and (labels is not None or groups is not None):
        raise ValueError(f"{name_or_path} has its own labels and patients: they are for folders")
    if name_or_path == "phantom":
        if image_size is None:
            raise ValueError("phantoms have no native size: image_size must be a number")
        source = PhantomSource(split, num_examples=num_examples, image_size=image_size, seed=seed)
        return _ordered(source, class_names, "phantom")
    if name_or_path == "chest_xray":
        at = default_home() if home is None else home
        directory = prepare(at, image_size=image_size, resize=resize, download=download)
        prepared = subsample(PreparedSource(directory, split), num_examples, seed=seed)
        return _ordered(prepared, class_names, "chest_xray")
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"no data set {os.fspath(name_or_path)!r}: it is neither 'chest_xray' nor 'phantom', "
            + ("nor an existing image, folder or zip file" if unlabelled else _FOLDERS)
        )
    folder = FolderSource(
        path,
        split,
        image_size=image_size,
        resize=resize,
        unlabelled=unlabelled,
        labels=labels,
        groups=groups,
        class_names=class_names,
    )
    source = subsample(folder, num_examples, seed=seed)
    # one column of a table is two classes; without labels, they are not the classes of a model
    few = (labels is not None and len(class_names) == 1) or (
        unlabelled and len(source.class_names) < 2
    )
    return source if few else _ordered(source, class_names, path)


def _ordered(source: Source, class_names: Sequence[str], where: object) -> Source:
    """With the classes in a given order, if any."""
    found = source.class_names
    if not class_names or found == tuple(class_names):
        return source
    renamed = renamings(found, class_names)
    now = [renamed.get(name, name) for name in found]
    if sorted(now) != sorted(class_names):
        once = [name for name in (*now, *class_names) if (name in now) != (name in class_names)]
        why = f"{once[0]} is not in both" if once else "two names are alike"
        raise ValueError(
            f"{where} has the classes {', '.join(found)}, not {', '.join(class_names)}: the names "
            f"must be those of the classes, and {why}"
        )
    if renamed:
        pairs = ", ".join(f"{name} for {other}" for name, other in renamed.items())
        warnings.warn(f"classes of {where} are taken for those named: {pairs}", stacklevel=3)
    return Ordered(source, class_names, renamed)
