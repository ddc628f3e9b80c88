"""The chest X-rays prepared by TFDS: made on first use, then read by index, without TensorFlow.

TFDS takes its time to import, so everything of it is imported within the functions.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from bfjax import storage
from bfjax.data.fingerprints import Fingerprint, changes, fingerprint, read_fingerprint
from bfjax.data.folder import FolderSource
from bfjax.data.image import decode
from bfjax.data.layout import splits_of
from bfjax.data.source import Original, Record, Source

_SEEN = "files_seen.json"
KAGGLE = "paultimothymooney/chest-xray-pneumonia"


class PreparedSource(Source):
    """One split of a prepared `chest_xray`.

    Args:
      directory: what `prepare` returned.
      split: "train", "val" or "test".

    Raises:
      ValueError: there is no such split; the message lists those there are.

    Example:
      >>> import pathlib, tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as home:
      ...     for label in ("NORMAL", "PNEUMONIA"):
      ...         folder = pathlib.Path(home, "chest_xray", "test", label)
      ...         folder.mkdir(parents=True)
      ...         Image.new("L", (30, 20)).save(folder / "person1_virus_6.jpeg")
      ...     source = PreparedSource(prepare(home, image_size=8), "test")
      ...     print(len(source), source[1]["image"].shape, source[1]["cause"])
      2 (8, 8, 1) virus
    """

    def __init__(self, directory: str | os.PathLike[str], split: str):
        self._directory, self._split = os.fspath(directory), split
        info = self._builder.info
        if split not in info.splits:
            raise ValueError(f"chest_xray has no split {split!r}; it has {', '.join(info.splits)}")
        self._length = int(info.splits[split].num_examples)
        self.class_names = tuple(info.features["label"].names)

    @property
    def names(self) -> list[str]:
        """Name of every record, in order: class folder, slash, file."""
        return self._metadata[0]

    @property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order."""
        return self._metadata[1]

    @property
    def groups(self) -> list[str]:
        """Patient of every record, in order."""
        return self._metadata[2]

    def content(self, index: int) -> bytes:
        """The stored image as it is encoded."""
        return self._records[index]["image"]

    def original(self, index: int) -> Original:
        """The image as it was downloaded, before it was prepared; see `Source.original`.

        Raises:
          FileNotFoundError: the downloaded files are no longer beside the prepared ones.
        """
        source, positions = self._downloaded
        return source.original(positions[self.names[index]])

    @functools.cached_property
    def _downloaded(self) -> tuple[FolderSource, dict[str, int]]:
        from bfjax.data.chest_xray import chest_xray_dataset_builder as chest_xray

        home = Path(self._directory).parents[3]  # of tfds/chest_xray/CONFIG/VERSION, see `prepare`
        source = FolderSource(chest_xray.find_raw(home), self._split, image_size=None)
        return source, {name: i for i, name in enumerate(source.names)}

    def _record(self, index: int) -> Record:
        stored = self._records[index]
        name = stored["name"].decode()
        return Record(
            image=decode(stored["image"], name),
            label=int(stored["label"]),
            name=name,
            cause=stored["cause"].decode(),
            group=stored["group"].decode(),
        )

    def __len__(self) -> int:
        return self._length

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self._directory)

    @functools.cached_property
    def _records(self) -> Sequence[dict[str, Any]]:
        import tensorflow_datasets as tfds

        # Our own decoder reads the image: TFDS's would prefer OpenCV, and warn where it is not.
        skip = {"image": tfds.decode.SkipDecoding()}
        return self._builder.as_data_source(self._split, decoders=skip)

    @functools.cached_property
    def _metadata(self) -> tuple[list[str], Int64[np.ndarray, " records"], list[str]]:
        names, labels, groups = [], [], []
        for i in range(len(self)):  # one at a time: a record holds its image too
            record = self._records[i]
            names.append(record["name"].decode())
            labels.append(record["label"])
            groups.append(record["group"].decode())
        return names, np.array(labels, np.int64), groups

    def __getstate__(self) -> dict[str, Any]:
        # open files do not travel to Grain's worker processes; each opens its own
        opened = ("_builder", "_records", "_downloaded")
        return {k: v for k, v in self.__dict__.items() if k not in opened}

    def __repr__(self) -> str:
        return f"PreparedSource({self._directory!r}, {self._split!r})"


def prepare(
    home: str | os.PathLike[str],
    *,
    image_size: int | None = 224,
    resize: str = "squash",
    download: bool = False,
) -> Path:
    """Prepares `chest_xray` at one size, unless it has been prepared before.

    TFDS writes to a folder named `incomplete.*` and renames it when done, so a preparation that
    was killed counts as none, and of two at the same time the first to finish wins.

    Args:
      home: folder that holds the raw data (see `find_raw`) and gets the prepared one, in `tfds/`.
      image_size: side of the square in pixels, or `None` for each image's own size.
      resize: `"squash"` or `"pad"`, see `bfjax.data.fit`.
      download: fetch the raw data with kagglehub if `home` does not have it.

    Returns:
      The folder of the prepared data set, for `PreparedSource`.

    Raises:
      FileNotFoundError: there is no raw data; the message says what to download.
      ImageError: files that cannot be decoded, all of them, one line each.
      ValueError: the raw data are no longer those that were prepared, naming the first files.
      ModuleNotFoundError: `download` without kagglehub.

    Example:
      >>> prepare("/nowhere")
      Traceback (most recent call last):
      ...
      FileNotFoundError: chest_xray is not there: download Kaggle's ... into /nowhere
    """
    import tensorflow_datasets as tfds

    from bfjax.data.chest_xray import chest_xray_dataset_builder as chest_xray

    config = chest_xray.ChestXRayConfig.named(image_size, resize)
    data_dir = Path(home).expanduser().absolute() / "tfds"
    directory = data_dir / "chest_xray" / config.name / str(chest_xray.Builder.VERSION)
    raw_home = data_dir.parent
    if directory.is_dir():
        _same_files(directory, raw_home)
        return directory
    try:
        chest_xray.find_raw(raw_home)
    except FileNotFoundError:
        if not download:
            raise
        raw_home = _download()
    if sys.stderr is None or not sys.stderr.isatty():
        tfds.display_progress_bar(False)
    log = logging.getLogger("absl")  # TFDS warns there of every size that it does not list
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        builder = chest_xray.Builder(config=config, data_dir=data_dir)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=raw_home),
            file_format="array_record",
        )
    except Exception:
        if not directory.is_dir():  # it is, where another process was faster
            raise
    finally:
        log.setLevel(level)
    _note_files(directory, chest_xray.find_raw(raw_home))
    # What killed preparations left behind; one that still runs is too late anyway.
    for stale in directory.parent.glob("incomplete.*"):
        shutil.rmtree(stale, ignore_errors=True)
    return directory


def _note_files(directory: Path, raw: Path) -> None:
    """Notes what was prepared from which files."""
    for split, found in _files(raw).items():
        found.write(directory / f"files_{split}.parquet")
    storage.write_json(directory / _SEEN, _seen(raw))


def _same_files(directory: Path, home: Path) -> None:
    """Makes sure that the raw data, where they still are, are those that were prepared.

    Files whose sizes and times are as they were are not read again.
    """
    from bfjax.data.chest_xray import chest_xray_dataset_builder as chest_xray

    try:
        raw = chest_xray.find_raw(home)
    except FileNotFoundError:
        return
    if storage.read_json(directory / _SEEN) == _seen(raw):
        return
    found = _files(raw)
    noted = {path.stem.removeprefix("files_") for path in directory.glob("files_*.parquet")}
    if gone := sorted(noted - found.keys()):
        raise ValueError(
            f"{directory} was prepared from a split {gone[0]}, which {raw} has no longer; delete "
            f"{directory}, and what is there is prepared anew"
        )
    for split, now in found.items():
        before = read_fingerprint(directory / f"files_{split}.parquet")
        if before is None:  # of a bfjax that did not note them, the names are known
            known = {name: rest for name, *rest in zip(*now, strict=True)}
            names = PreparedSource(directory, split).names
            both = [known.get(name, (name.partition("/")[0], "")) for name in names]
            before = Fingerprint(names, [one for one, _ in both], [other for _, other in both])
        if before != now:
            raise ValueError(
                f"{directory} was prepared from other files than {raw} holds now ({split}): "
                f"{changes(before, now)}; delete {directory}, and they are prepared anew"
            )
    _note_files(directory, raw)


def _files(raw: Path) -> dict[str, Fingerprint]:
    return {
        split: fingerprint(FolderSource(raw, split, image_size=None)) for split in splits_of(raw)
    }


def _seen(raw: Path) -> dict[str, str]:
    """A digest of the names, sizes and times of all files."""
    digest = hashlib.sha256()
    for path in sorted(raw.rglob("*")) if raw.is_dir() else [raw]:
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="replace"))
    return {"sha256": digest.hexdigest()}


def _download() -> Path:
    try:
        import kagglehub  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        message = "download=True needs kagglehub (pip install kagglehub)"
        raise ModuleNotFoundError(message, name="kagglehub") from None
    return Path(kagglehub.dataset_download(KAGGLE))
