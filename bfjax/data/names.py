"""What the names of files and folders say: the patient, the cause, the order of classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# person447_virus_921_1.jpeg is the one name with a fourth number
_PERSON = re.compile(r"(person\d+)_(bacteria|virus)_\d+(?:_\d+)?\.\w+")
# of the path with its folders; each has the patient as its one group
_PATIENTS = (
    # Kermany: IM-0115-0001.jpeg, NORMAL2-IM-0246-0001-0002.jpeg
    re.compile(r"(?:.*/)?((?:NORMAL\d*-)?IM-\d+)-\d+(?:-\d+)?\.\w+"),
    # Mendeley's third version: NORMAL-1003233-0001.jpeg, disease, patient, image
    re.compile(r"(?:.*/)?(?:NORMAL|BACTERIA|VIRUS|CNV|DME|DRUSEN)-(\d{4,})-\d+\.\w+"),
    # NIH ChestX-ray14: 00000003_001.png
    re.compile(r"(?:.*/)?(000\d{5})_\d{3}\.\w+"),
    # CheXpert: patient00001/study1/view1_frontal.jpg, or the same joined by underscores
    re.compile(r"(?:.*/)?(patient\d+)[/_-]study\d+[/_-].*"),
    # MIMIC-CXR: files/p10/p10000032/s50414267/ID.dcm, or the same joined
    re.compile(r"(?:.*/)?(p\d{8})[/_-]s\d{8}(?:[/_.-].*)?"),
    # VinDr-Mammo: images/STUDY/IMAGE.dicom, the study of one examination
    re.compile(r"(?:.*/)?([0-9a-f]{32})/[0-9a-f]{32}\.\w+"),
)
# PadChest: STUDY_IMAGE.png, where whose study it is stands in its table alone
_STUDY = re.compile(r"(?:.*/)?(\d{25,})_[\w-]+\.\w+")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_NUMBERED = re.compile(r"(\D*)(\d+)(\D*)")


def parse_name(name: str) -> tuple[str, str]:
    """Reads cause and patient from a file's path as public data sets have it.

    Kermany (Kaggle's and Mendeley's copies): `person1_virus_6.jpeg` is the virus pneumonia of
    person1; `NORMAL2-IM-0246-0001-0002.jpeg` belongs to NORMAL2-IM-0246, whose further images
    differ in the last number; IM-0246 without the prefix is taken for somebody else. Beware: the
    `person` numbers of the train and the test split overlap, and nobody has published whether they
    mean the same people.

    Others: NIH ChestX-ray14, CheXpert, MIMIC-CXR; of VinDr-Mammo the study. PadChest's names tell
    the study, not the patient, and VinDr-CXR's nothing at all (see `tells_patient`).

    Args:
      name: path, e.g. `"PNEUMONIA/person1_virus_6.jpeg"`.

    Returns:
      (cause, group): the cause, `"bacteria"`, `"virus"` or `""`; the patient, for any other
      manner of naming the whole name (every image is its own group).

    Example:
      >>> parse_name("PNEUMONIA/person1_virus_6.jpeg")
      ('virus', 'person1')
      >>> parse_name("images/00000003_001.png")
      ('', '00000003')
      >>> parse_name("cats/tabby.png")
      ('', 'cats/tabby.png')
    """
    if person := _PERSON.fullmatch(name.rpartition("/")[2]):
        return person[2], person[1]
    for pattern in (*_PATIENTS, _STUDY):
        if found := pattern.fullmatch(name):
            return "", found[1]
    return "", name


def tells_patient(name: str, group: str) -> bool:
    """Whether a record's group is a patient, and not only what its name could say.

    Args:
      name: of the record.
      group: of the record, perhaps known from elsewhere.

    Returns:
      False where the group was read from a name that does not say the patient.

    Example:
      >>> tells_patient("cats/tabby.png", "cats/tabby.png"), tells_patient("tabby.png", "Ann")
      (False, True)
    """
    return group not in (name, _study(name))


def _study(name: str) -> str | None:
    found = _STUDY.fullmatch(name)
    return found[1] if found else None


def spelled_alike(name: str, others: Iterable[str]) -> list[str]:
    """The classes that a name may mean: the same letters and digits, in whatever case.

    Args:
      name: of a class.
      others: of the classes that there are.

    Returns:
      The name alone where it is one of them.

    Example:
      >>> spelled_alike("normal ", ["NORMAL", "PNEUMONIA"])
      ['NORMAL']
    """
    others = list(others)
    if name in others:
        return [name]
    return [other for other in others if _letters(other) == _letters(name)]


def renamings(found: Iterable[str], class_names: Sequence[str]) -> dict[str, str]:
    """Which classes are taken for others, that differ in case or signs alone.

    Args:
      found: names of classes.
      class_names: what they should be.

    Returns:
      The new name of each that gets one.

    Example:
      >>> renamings(["normal", "cat"], ["NORMAL", "PNEUMONIA"])
      {'normal': 'NORMAL'}
    """
    alike = {name: spelled_alike(name, class_names) for name in found}
    return {name: one[0] for name, one in alike.items() if len(one) == 1 and one != [name]}


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFC", name).casefold())


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in their order: by number where all are numbers, or numbered alike; else as text.

    Args:
      names: such as `"0"` to `"11"`, or `"grade 1"` to `"grade 10"`.

    Returns:
      All of them.

    Example:
      >>> in_order(["10", "9", "0"]), in_order(["grade 10", "grade 2"]), in_order(["b", "a1"])
      (['0', '9', '10'], ['grade 2', 'grade 10'], ['a1', 'b'])
    """
    ordered = sorted(names)
    if all(map(_NUMBER.fullmatch, ordered)):
        return sorted(ordered, key=float)
    found = [_NUMBERED.fullmatch(name) for name in ordered]
    if all(found) and len({(f[1], f[3]) for f in found if f}) == 1:
        return [f.string for f in sorted((f for f in found if f), key=lambda f: int(f[2]))]
    return ordered
