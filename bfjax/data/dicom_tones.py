"""DICOM's grey scale transformations: from stored values to what a viewer shows first.

Convention:
    Values are numbers of any range; tones y are in [0, 1], dark to bright. Each stage maps the list
    of all values that can be stored, which the pixels then look up. None of a header's text gets
    into a message or a remark.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Integer, Shaped

from bfjax.data.levels import ImageError, Levels

Values: TypeAlias = Shaped[np.ndarray, " values"]
Tones: TypeAlias = Float64[np.ndarray, " values"]

_NARROWEST = {"LINEAR": 1.0, "LINEAR_EXACT": 0.0, "SIGMOID": 0.0}  # the last two exclude it


def render(
    dataset: Any, stored: Integer[np.ndarray, "h w"], name: str, remarks: list[str]
) -> Levels:
    """Passes every storable value through the stages once; the pixels then look it up.

    Args:
      dataset: pydicom's, of one grey image.
      stored: its pixels; a signed type where the values are.
      name: of the file.
      remarks: what there is to say about it is appended.

    Returns:
      (h, w), 8 bits for up to 8 bits stored, else 16.

    Raises:
      ImageError: a stage is damaged or makes no image.

    Reference: DICOM PS3.3, C.7.6.3 and C.11.
    """
    dataset = _of_the_frame(dataset)
    bits, signed = int(dataset.BitsStored), stored.dtype.kind == "i"
    low = -(2 ** (bits - 1)) if signed else 0
    # lossy decompression, or a codestream of more bits, may go beyond those that are declared
    low, high = min(low, int(stored.min())), max(low + 2**bits - 1, int(stored.max()))
    values = np.arange(low, high + 1)
    index = stored.astype(np.int32) - low
    present = (np.bincount(index.ravel(), minlength=len(values)) > 0) & ~_padding(values, dataset)
    tones = _voi(_modality(values, dataset, name), dataset, present, name, remarks)
    tones = _presentation(tones, dataset, name, remarks)
    full, dtype = (65535, np.uint16) if bits > 8 else (255, np.uint8)
    return np.rint(tones * full).astype(dtype)[index]


def _of_the_frame(dataset: Any) -> Any:
    """Where an enhanced object has rescaling and window in functional groups, as if it were none.

    Reference: DICOM PS3.3, C.7.6.16.2.9 and C.7.6.16.2.10.
    """
    groups = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    for group in (item for tag in groups for item in (dataset.get(tag) or ())[:1]):
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(macro) or ())[:1]:
                dataset.update(item)
    return dataset


def _modality(values: Values, dataset: Any, name: str) -> Values:
    """Stage 1 (PS3.3 C.11.1)."""
    if lut := _lut(dataset, "ModalityLUTSequence"):
        return _look_up(values, lut, dataset, name)[0]
    slopes, intercepts = _numbers(dataset, "RescaleSlope"), _numbers(dataset, "RescaleIntercept")
    if not slopes or not intercepts:
        return values
    slope, intercept = slopes[0], intercepts[0]
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise ImageError(f"{name}: RescaleSlope or RescaleIntercept makes no image")
    return values * slope + intercept


def _voi(
    x: Values, dataset: Any, present: Bool[np.ndarray, " values"], name: str, remarks: list[str]
) -> Tones:
    """Stage 2 (PS3.3 C.11.2), to [0, 1]."""
    if lut := _lut(dataset, "VOILUTSequence"):
        tones, top = _look_up(x, lut, dataset, name)
        return tones / _full_scale(top, lut, "VOI LUT", remarks)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in _NARROWEST:
        raise ImageError(f"{name}: VOILUTFunction is none of LINEAR, LINEAR_EXACT, SIGMOID")
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    pairs = list(zip(centers, widths, strict=False))
    for center, width in pairs:
        wide = width >= 1 if function == "LINEAR" else width > 0
        if wide and np.isfinite([center, width]).all():
            return _window(x, center, width, function)
    if centers or widths:
        remarks.append("its window has no width; the range of its pixels is taken instead")
    if not present.any():
        raise ImageError(f"{name}: every pixel is padding")
    low, high = float(x[present].min()), float(x[present].max())
    return np.clip((x - low) / ((high - low) or 1), 0, 1)


def _window(x: Values, center: float, width: float, function: str) -> Tones:
    if function == "SIGMOID":
        return 0.5 + 0.5 * np.tanh(2 * (x - center) / width)  # the logistic, without overflow
    if function == "LINEAR":  # 8 bits of width 256 and centre 128: 0 to 255, both ends included
        center, width = center - 0.5, width - 1
    if width == 0:
        return (x > center).astype(np.float64)
    return np.clip((x - center) / width + 0.5, 0, 1)


def _presentation(y: Tones, dataset: Any, name: str, remarks: list[str]) -> Tones:
    """Stage 3 (PS3.3 C.11.4 and C.11.6). INVERSE says of MONOCHROME1 what it is already."""
    dark = dataset.PhotometricInterpretation == "MONOCHROME1"
    if lut := _lut(dataset, "PresentationLUTSequence"):
        if dark:
            raise ImageError(f"{name}: MONOCHROME1 with a presentation LUT is not read")
        tones, top = _look_up(y * (_entries(lut) - 1), lut, dataset, name)
        return tones / _full_scale(top, lut, "presentation LUT", remarks)
    shape = str(dataset.get("PresentationLUTShape") or "IDENTITY").strip().upper()
    if shape not in ("IDENTITY", "INVERSE"):
        raise ImageError(f"{name}: PresentationLUTShape is neither IDENTITY nor INVERSE")
    return 1 - y if dark or shape == "INVERSE" else y


def _padding(values: Values, dataset: Any) -> Bool[np.ndarray, " values"]:
    """Which storable values mean "no picture here" (PS3.3 C.7.5.1.1.2)."""
    tags = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ends = [end for tag in tags for end in _numbers(dataset, tag)[:1] if np.isfinite(end)]
    ends = [_sixteen_bits(int(end), bool(values[0] < 0)) for end in ends]
    return (values >= min(ends, default=np.inf)) & (values <= max(ends, default=-np.inf))


def _lut(dataset: Any, sequence: str) -> Any:
    """The first LUT of a sequence, or `None`; some writers leave empty items."""
    items = dataset.get(sequence) or ()
    empty = (None, "", b"")
    full = (i for i in items if any(i.get(t) not in empty for t in ("LUTDescriptor", "LUTData")))
    return next(full, None)


def _look_up(x: Values, lut: Any, dataset: Any, name: str) -> tuple[Values, int]:
    """A LUT's entry for each x, the first and the last one for those beyond; and its largest."""
    entries, (first, bits) = _entries(lut), (int(number) for number in lut.LUTDescriptor[1:])
    table = lut.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "<u2" if dataset.original_encoding[1] else ">u2")
        if table.size < entries:  # entries of 8 bits, two in a word
            table = table.astype("<u2").view(np.uint8)
    table = np.atleast_1d(np.asarray(table, np.int64))[:entries]
    if table.size < entries or not 1 <= bits <= 16 or not 0 <= table.min() <= table.max() < 2**bits:
        raise ImageError(f"{name}: the modality, VOI or presentation LUT is damaged")
    index = np.rint(x) - _sixteen_bits(first, bool(x.min() < 0))
    return table[np.clip(index, 0, entries - 1).astype(np.int64)], int(table.max())


def _entries(lut: Any) -> int:
    return int(lut.LUTDescriptor[0]) or 2**16  # which does not fit its 16 bits


def _full_scale(top: int, lut: Any, kind: str, remarks: list[str]) -> int:
    """The entry that is white. Writers of 12 bits declare 16, which would be 1/16 as bright."""
    declared, used = int(lut.LUTDescriptor[2]), max(8, top.bit_length())
    if used < declared:
        remarks.append(f"its {kind} declares more bits than the {used} it uses; these are taken")
    return 2 ** min(declared, used) - 1


def _sixteen_bits(number: int, signed: bool) -> int:
    """Read as 16 bits of that sign: writers mix up the two where either is allowed."""
    low = -(2**15) if signed else 0
    return (number - low) % 2**16 + low


def _numbers(dataset: Any, tag: str) -> list[float]:
    """The numbers under a tag, if any; NaN for each that is none."""
    value = dataset.get(tag)
    if value is None or value == "":
        return []
    several = [value] if isinstance(value, str | float | int) else value
    return [_number(one) for one in several]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # text, or nothing
        return np.nan
