"""What the header of a DICOM file says of a person, and whether a name says it, too.

Convention:
    Nothing that is read here gets into a message or a result; see `bfjax.data.dicom`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import re
import unicodedata
from typing import Any, NamedTuple

from bfjax.data.dicom import guarded, refuse_deflated_bomb
from bfjax.data.image import ImageError

_STANDARD = "1.2.840.10008."  # UIDs of the standard itself, which name kinds of things
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UID = re.compile(r"[0-9]+(?:\.[0-9]+){4,}")
_PLACES = ("PatientAddress", "PatientTelephoneNumbers", "InstitutionName", "StationName")
_DAY = 8  # digits of a date; without its century it must be a whole word to count
_LONG = 4  # letters and digits; what is shorter must be a whole word, too
_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "þ": "th"})
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})


class Identity(NamedTuple):
    """What a header says of a person, each in lower case letters and digits alone.

    Attributes:
      patient: a digest of the patient's id, "" where there is none.
      parts: what no name may contain.
      words: what must not stand in a name between other signs.
      certain: whether the header could be read; else any name may tell what it says.
    """

    patient: str
    parts: frozenset[str]
    words: frozenset[str]
    certain: bool = True


_NOBODY = Identity("", frozenset(), frozenset())


def identity(file: Any) -> Identity:
    """Ids, names and dates of a header, with those of all its sequences.

    Args:
      file: a DICOM file, opened.

    Returns:
      What there is; nothing where pydicom is not installed.
    """
    if not _installed():
        return _NOBODY
    dataset = _header(file)
    if dataset is None:
        return _NOBODY._replace(certain=False)
    parts: set[str] = set()
    words: set[str] = set()
    try:
        with guarded(""):
            for element in dataset.iterall():
                for text in _texts(element):
                    short = len(text) < (_DAY if element.VR in ("DA", "DT") else _LONG)
                    (words if short and element.VR != "PN" else parts).add(text)
            number = str(dataset.get("PatientID") or "").strip()
            # one that ends before its pixels was cut, perhaps within the header; what is deflated
            # is read as a whole
            deflated = dataset.file_meta.get("TransferSyntaxUID") == _DEFLATED
            certain = deflated or bool(file.read(1))
    except ImageError:
        return _NOBODY._replace(certain=False)
    return Identity(
        digest(f"patient {number}") if number else "", frozenset(parts), frozenset(words), certain
    )


def digest(content: str | bytes) -> str:
    """A name for some content that says nothing of it.

    Args:
      content: any.

    Returns:
      The first 16 digits of its SHA-256, in hexadecimal.

    Example:
      >>> digest("Doe")
      'fd53ef835b154855'
    """
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:16]


def has_image(file: Any) -> bool:
    """Whether a DICOM file is one of pixels; others are reports, presentation states and the like.

    Args:
      file: opened.

    Returns:
      True also where the header cannot be read: whoever decodes it says why.
    """
    dataset = _header(file) if _installed() else None
    return dataset is None or "Rows" in dataset


def _installed() -> bool:
    return importlib.util.find_spec("pydicom") is not None  # an optional dependency


def _header(file: Any) -> Any:
    """All of a file before its pixels, or `None` where that cannot be read."""
    try:
        with guarded(""):
            refuse_deflated_bomb(file, "")
            dataset = importlib.import_module("pydicom").dcmread(
                file, stop_before_pixels=True, force=True
            )
            return dataset if len(dataset) else None
    except ImageError:
        return None


def _texts(element: Any) -> list[str]:
    """The values of an element that tell a person, an examination or a day."""
    kind, keyword, value = element.VR, element.keyword, element.value
    if value is None or kind == "SQ":
        return []
    values = [str(one) for one in ([value] if isinstance(value, str | bytes) else _several(value))]
    if kind == "PN":
        return [text for one in values for text in _of_name(one)]
    if kind == "UI":
        return [plain(one) for one in values if one and not one.startswith(_STANDARD)]
    if kind in ("DA", "DT"):
        days = [found for one in values if (found := re.match(r"(\d{4})\.?(\d\d)\.?(\d\d)", one))]
        orders = ((1, 2, 3), (3, 2, 1), (2, 3, 1))
        years = [(day[1], day[2], day[3]) for day in days]
        years += [(year[2:], *rest) for year, *rest in years]
        return ["".join(day[i - 1] for i in order) for day in years for order in orders]
    told = keyword.endswith(("ID", "IDs", "Number")) and keyword != "StudyID"
    if kind in ("LO", "SH") and (told or keyword in _PLACES):
        texts = {text for one in values for text in _spellings(one)}
        return [text for text in texts | {text.lstrip("0") for text in texts} if text]
    if keyword == "StudyID":  # often a mere 1
        return [text for one in values if len(text := plain(one)) >= _LONG]
    return []


def _of_name(name: str) -> set[str]:
    """The words of a name; two that are short count together, in either order."""
    found: set[str] = set()
    for group in name.split("="):  # in Latin letters, in ideographs, as it sounds
        words = [word for word in re.split(r"[\^\s,._\-]+", group) if plain(word)]
        short = [word for word in words if not _is_name(plain(word), 3)]
        pairs = ("".join(pair) for pair in itertools.permutations(words, 2) if {*pair} & {*short})
        found |= {text for word in words for text in _spellings(word) if _is_name(text, 3)}
        found |= {text for pair in pairs for text in _spellings(pair) if _is_name(text, 4)}
    return found


def _is_name(text: str, least: int) -> bool:
    """Whether a text has enough letters to be a name; of Chinese or Japanese ones, two."""
    letters = [letter for letter in text if letter.isalpha()]
    return len(letters) >= least or sum(letter >= "\u2e80" for letter in letters) >= 2


def _spellings(text: str) -> set[str]:
    """Without accents, and with the two letters that stand for one with an accent."""
    whole = unicodedata.normalize("NFC", text).casefold()
    return {plain(whole), plain(whole.translate(_DIGRAPHS))}


def _several(value: Any) -> list[Any]:
    # pydicom's MultiValue is no list; its PersonName iterates over its letters
    return list(value) if type(value).__name__ == "MultiValue" else [value]


def plain(text: str) -> str:
    """Lower case letters and digits, without accents.

    Args:
      text: any.

    Returns:
      What is left of it.

    Example:
      >>> plain("Müller^Anna-Lena 7")
      'mullerannalena7'
    """
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    return "".join(filter(str.isalnum, folded))


def tells(name: str, who: Identity) -> bool:
    """Whether a path tells what a header does, or is made of a UID.

    Args:
      name: the path.
      who: of the header.

    Returns:
      True where some folder or the file does.

    Example:
      >>> doe = Identity("", frozenset({"doe", "20200131"}), frozenset({"7"}))
      >>> tells("X/scan of 2020-01-31.dcm", doe), tells("X/7.dcm", doe), tells("X/77.dcm", doe)
      (True, True, False)
    """
    if not who.certain or _UID.search(name):
        return True
    for component in name.split("/"):
        if any(part in whole for whole in _spellings(component) for part in who.parts):
            return True
        if who.words & {plain(word) for word in re.split(r"[\W_]+", component)}:
            return True
    return False
