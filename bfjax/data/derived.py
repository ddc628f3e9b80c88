"""Altered images as files: a derived DICOM that tells nothing of the patient, or a 16-bit PNG.

Convention:
    An image is (h, w, 1), float in [0, 1], of the original's own size. A file appears under its
    name only when it is whole.
"""

from __future__ import annotations

import importlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16

from bfjax.data.dicom import guarded, load, parse
from bfjax.data.image import encode_png
from bfjax.data.whitelist import SECONDARY_CAPTURE, harmless
from bfjax.storage import replacing

# Type 2 of the standard: these have to be there, and may be empty.
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesNumber", "InstanceNumber", "Manufacturer", "PatientOrientation"),
    *("BodyPartExamined", "ViewPosition"),
)


def derived_dicom(
    original: bytes | str | os.PathLike[str], image: Float[np.ndarray, "h w 1"], path: Path
) -> None:
    """Writes an altered image as a new DICOM file, marked as derived and not for clinical use.

    With b the original's BitsStored, the stored value is v = round((2^b − 1) · image), half to
    even, computed in float64: unsigned, MONOCHROME2, uncompressed, little endian. A LINEAR window
    of centre 2^(b−1) and width 2^b shows it as y = v / (2^b − 1), so that `decode_dicom` gives
    exactly round(F · v / (2^b − 1)), F = 255 for b ≤ 8, else 65535 (2^b − 1 is odd, so neither
    this nor the way back, v = round((2^b − 1) · pixel / F), ever meets a half).

    The file is built from nothing, not by removing: of the original it has the size, the bit
    depth, the spacing of the pixels, and Modality, BodyPartExamined, Laterality, ImageLaterality,
    ViewPosition and BurnedInAnnotation where these are standard terms, and LossyImageCompression
    "01" where anything says that a loss has been, the transfer syntax too. All UIDs are new and
    random; what the standard wants there for the patient and the study is empty. The SOP class
    is the original's if that is Computed Radiography or Secondary Capture, whose mandatory
    attributes this file has; else it is Secondary Capture. PatientIdentityRemoved is "YES", unless
    the original says that annotations are burned into its pixels: these are not looked at.

    Args:
      original: the DICOM file that was altered, its bytes or its path.
      image: (h, w, 1), in [0, 1], of the original's size.
      path: the new file; its folder is created, and a file of that name replaced.

    Raises:
      ImageError: the original is none that `decode_dicom` reads, by its header.
      ValueError: the image is of another size or not in [0, 1], or `path` is the original.
      ImportError: pydicom is not installed.
      OSError: a path cannot be read or written.

    Example:
      >>> import pathlib, tempfile
      >>> from pydicom.data import get_testdata_file
      >>> from bfjax.data.dicom import decode_dicom
      >>> from bfjax.data.image import to_float
      >>> original = get_testdata_file("CT_small.dcm")
      >>> image = decode_dicom(original)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "altered.dcm")
      ...     derived_dicom(original, to_float(image), path)
      ...     bool((decode_dicom(path) == image).all())
      True

    Reference: DICOM PS3.3, A.8.1, C.7 and C.11.2; PS3.15 E.
    """
    data, name = load(original)
    if not isinstance(original, bytes) and path.exists() and path.samefile(original):
        raise ValueError(f"{name} is the original itself: choose another path")
    with guarded(name):
        dataset = parse(data, name)
        size, bits = (int(dataset.Rows), int(dataset.Columns), 1), int(dataset.BitsStored)
        tags = harmless(dataset)
    if image.shape != size:
        raise ValueError(f"image must be {size}, as {name} is, got {image.shape}")
    stored = _levels(image, 2**bits - 1)[:, :, 0].astype(np.uint8 if bits <= 8 else np.uint16)
    _write(path, _encode(tags, stored, bits))


def write_png16(image: Float[np.ndarray, "h w 1"], path: Path) -> None:
    """Writes an image as a grey PNG of 16 bits, round(65535 · image).

    Args:
      image: (h, w, 1), in [0, 1].
      path: the file; its folder is created, and a file of that name replaced.

    Raises:
      ValueError: the image is not in [0, 1].
      OSError: the path cannot be written.

    Example:
      >>> import pathlib, tempfile
      >>> import numpy as np
      >>> from bfjax.data import decode
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "altered.png")
      ...     write_png16(np.array([[[0.0], [0.25], [1.0]]]), path)
      ...     decode(path).ravel().tolist()
      [0, 16384, 65535]
    """
    _write(path, encode_png(_levels(image, 65535)))


def _levels(image: Float[np.ndarray, "h w 1"], top: int) -> UInt16[np.ndarray, "h w 1"]:
    """Intensities in [0, 1] to the integers 0 to top; a lower depth would band the field."""
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # NaN too
        raise ValueError(f"image must lie in [0, 1], got {low} to {high}")
    return np.rint(np.asarray(image, np.float64) * top).astype(np.uint16)


def _encode(tags: dict[str, Any], stored: np.ndarray, bits: int) -> bytes:
    """The new file."""
    pydicom = importlib.import_module("pydicom")
    new = pydicom.Dataset()
    for tag, value in (dict.fromkeys(_EMPTY, "") | tags).items():
        setattr(new, tag, value)
    if "FrameOfReferenceUID" in tags:
        new.FrameOfReferenceUID, new.PositionReferenceIndicator = _new_uid(), ""
    new.SOPInstanceUID, new.SeriesInstanceUID, new.StudyInstanceUID = (_new_uid() for _ in range(3))
    new.ImageType = ["DERIVED", "SECONDARY"]
    if new.SOPClassUID == SECONDARY_CAPTURE:
        new.ConversionType = "WSD"  # made on a workstation
    new.SeriesDescription = "bfjax adversarial bias field, NOT FOR CLINICAL USE"
    new.DerivationDescription = (
        "Altered by bfjax: an adversarial bias field, made to test the robustness of classifiers. "
        "Not for clinical use."
    )
    burned = tags.get("BurnedInAnnotation") == "YES"
    new.PatientIdentityRemoved = "NO" if burned else "YES"
    new.DeidentificationMethod = ["new file, few technical attributes copied", "pixels not cleaned"]
    new.WindowCenter, new.WindowWidth, new.VOILUTFunction = 2 ** (bits - 1), 2**bits, "LINEAR"
    new.file_meta = pydicom.dataset.FileMetaDataset()
    new.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    new.set_pixel_data(stored, "MONOCHROME2", bits, generate_instance_uid=False)
    file = io.BytesIO()
    new.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _new_uid() -> str:
    """Random, under the root that is anyone's (a UUID)."""
    return importlib.import_module("pydicom.uid").generate_uid(prefix=None)


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
