"""TFDS builder: the Kaggle chest X-rays as lossless grey PNG of one size, in array_record."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bfjax.data.bad_files import check
from bfjax.data.folder import FolderSource
from bfjax.data.image import ImageError, encode_png, validate
from bfjax.data.layout import splits_of
from bfjax.data.source import Source

CLASSES = ("NORMAL", "PNEUMONIA")

_RAW = ("chest_xray", "chest-xray-pneumonia.zip", "archive.zip", "ChestXRay2017.zip")

INSTRUCTIONS = (
    "download Kaggle's paultimothymooney/chest-xray-pneumonia (or ChestXRay2017.zip from Mendeley "
    "Data, doi 10.17632/rscbjbr9sj.2) and put the zip file, as it is, or its folder chest_xray "
    "(chest_xray/train/NORMAL/*.jpeg ...) into {folder}"
)


def find_raw(folder: str | os.PathLike[str]) -> Path:
    """Finds the data set as it was downloaded.

    Args:
      folder: where to look for `chest_xray/`, `chest-xray-pneumonia.zip`, `archive.zip` (the name
        that Kaggle's site gives it) or `ChestXRay2017.zip`, in this order.

    Returns:
      The folder or zip file.

    Raises:
      FileNotFoundError: none of them is there; the message says what to download and where to
        put it.

    Example:
      >>> find_raw("/nowhere")
      Traceback (most recent call last):
      ...
      FileNotFoundError: chest_xray is not there: download Kaggle's ... into /nowhere
    """
    for name in _RAW:
        if (raw := Path(folder) / name).exists():
            return raw
    raise FileNotFoundError(f"chest_xray is not there: {INSTRUCTIONS.format(folder=folder)}")


@dataclasses.dataclass
class ChestXRayConfig(tfds.core.BuilderConfig):
    """Size and resize policy; `named` makes one.

    Attributes:
      name: of the folder that the prepared data lies in.
      image_size: side of the square in pixels, or `None` for each image's own size.
      resize: `"squash"` or `"pad"`, see `bfjax.data.fit`.
    """

    name: str
    image_size: int | None = 224
    resize: str = "squash"

    @classmethod
    def named(cls, image_size: int | None, resize: str) -> ChestXRayConfig:
        """The configuration of a size and a policy, under a name that tells both.

        Args:
          image_size: side of the square in pixels, or `None` for each image's own size.
          resize: `"squash"` or `"pad"`.

        Returns:
          The configuration; the same object for those that the builder lists.

        Raises:
          ValueError: the size is below 1 or the policy is unknown.

        Example:
          >>> ChestXRayConfig.named(64, "pad").name
          'pad_64'
        """
        validate(image_size, resize)
        name = "native" if image_size is None else f"{resize}_{image_size}"
        if name in Builder.builder_configs:  # TFDS insists on the object it has
            return Builder.builder_configs[name]
        return cls(name=name, image_size=image_size, resize=resize)


class Builder(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder `chest_xray`; needs no TensorFlow with `file_format="array_record"`.

    The raw data is looked for in TFDS's `manual_dir` (see `find_raw`). Records keep the order of
    the sorted names.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS.format(folder="manual_dir")
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS's own declaration is a list)
        ChestXRayConfig(name="squash_224", image_size=224, resize="squash"),
        ChestXRayConfig(name="pad_224", image_size=224, resize="pad"),
        ChestXRayConfig(name="native", image_size=None, resize="squash"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.image_size
        features = {
            "image": tfds.features.Image(
                shape=(size, size, 1), dtype=np.uint8, encoding_format="png"
            ),
            "label": tfds.features.ClassLabel(names=CLASSES),
            "name": tfds.features.Text(),
            "cause": tfds.features.Text(),
            "group": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.17632/rscbjbr9sj.2",
            license="CC BY 4.0",
            disable_shuffling=True,
        )

    def _log_download_bytes(self) -> None:
        """TFDS prints to stdout here, though nothing is downloaded."""

    def _log_download_done(self) -> None:
        """See `_log_download_bytes`."""

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        raw = find_raw(dl_manager.manual_dir)
        config = self.builder_config
        sources = [
            FolderSource(raw, split, image_size=config.image_size, resize=config.resize)
            for split in splits_of(raw)
        ]
        for source in sources:
            if source.class_names != CLASSES:
                raise ValueError(
                    f"{raw} has the classes {', '.join(source.class_names)}, not "
                    f"{', '.join(CLASSES)}; load it by its path instead of as 'chest_xray'"
                )
        return {
            source.split: self._generate_examples(source, sources[i + 1 :])
            for i, source in enumerate(sources)
        }

    def _generate_examples(
        self, source: Source, later: list[FolderSource]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields every record, or raises once, at the end, for the bad files of all splits."""
        problems = []
        for i, name in enumerate(source.names):
            try:
                record = source[i]
            except (ImageError, OSError) as error:
                problems.append(str(error))
                continue
            if record["image"].dtype != np.uint8:
                problems.append(f"{name}: a 16-bit file; load the folder by its path to keep them")
                continue
            yield name, {**record, "image": encode_png(record["image"])}
        if problems:
            for rest in later:  # this attempt is lost: look at what else is wrong
                problems += check(rest)
            way = "mend or delete them, or give their folder to --data, with --skip-bad:"
            raise ImageError("\n".join([f"{len(problems)} unreadable files; {way}", *problems]))
