"""Chest X-rays, any folder of class folders, and phantoms, as random-access sources for Grain.

Convention:
    A record's image is (h, w, 1), uint8 or uint16; `to_float` takes it to float32 in [0, 1].
    Nothing is dropped silently: a file that cannot be decoded rightly raises an `ImageError`
    with its name when it is read, and `check` lists all of them.
"""

from bfjax.data.derived import derived_dicom, write_png16
from bfjax.data.dicom import decode_dicom
from bfjax.data.image import ImageError, decode, fit, to_float
from bfjax.data.loading import load
from bfjax.data.source import Labelled, Original, Record, Source, Subset, check

__all__ = [
    "ImageError",
    "Labelled",
    "Original",
    "Record",
    "Source",
    "Subset",
    "check",
    "decode",
    "decode_dicom",
    "derived_dicom",
    "fit",
    "load",
    "to_float",
    "write_png16",
]
