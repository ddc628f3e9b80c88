from . import feed as feed
from .bad_files import bad_files, check
from .derived import derived_dicom, write_png16
from .dicom import decode_dicom
from .fingerprints import Fingerprint, changes, digest, fingerprint, read_fingerprint
from .image import ImageError, decode, fit, to_float
from .loading import load
from .names import renamings, spelled_alike, tells_patient
from .source import Original, Record, Source
from .views import Finding, Findings, Labelled, Ordered, Subset

__all__ = [
    "Finding",
    "Findings",
    "Fingerprint",
    "ImageError",
    "Labelled",
    "Ordered",
    "Original",
    "Record",
    "Source",
    "Subset",
    "bad_files",
    "changes",
    "check",
    "decode",
    "decode_dicom",
    "derived_dicom",
    "digest",
    "feed",
    "fingerprint",
    "fit",
    "load",
    "read_fingerprint",
    "renamings",
    "spelled_alike",
    "tells_patient",
    "to_float",
    "write_png16",
]
