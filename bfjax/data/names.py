"""What the file names of Kermany's chest X-rays say about cause and patient."""

from __future__ import annotations

import re

# person447_virus_921_1.jpeg is the one name with a fourth number
_PERSON = re.compile(r"(person\d+)_(bacteria|virus)_\d+(?:_\d+)?\.\w+")
# IM-0115-0001.jpeg, NORMAL2-IM-0246-0001-0002.jpeg
_STUDY = re.compile(r"((?:NORMAL\d*-)?IM-\d+)-\d+(?:-\d+)?\.\w+")


def parse_name(name: str) -> tuple[str, str]:
    """Reads cause and patient from a name as Kaggle's and Mendeley's copies have it.

    Pneumonia: `person1_virus_6.jpeg` is the virus pneumonia of person1. Normal:
    `NORMAL2-IM-0246-0001-0002.jpeg` belongs to NORMAL2-IM-0246, whose further images differ in
    the last number; IM-0246 without the prefix is taken for somebody else. Beware: the `person`
    numbers of the train and the test split overlap, and nobody has published whether they mean
    the same people.

    Args:
      name: class folder and file name, e.g. `"PNEUMONIA/person1_virus_6.jpeg"`.

    Returns:
      (cause, group): the cause, `"bacteria"`, `"virus"` or `""`; the patient, for any other
      manner of naming the whole name (every image is its own group).

    Example:
      >>> parse_name("PNEUMONIA/person1_virus_6.jpeg")
      ('virus', 'person1')
      >>> parse_name("NORMAL/NORMAL2-IM-0246-0001-0002.jpeg")
      ('', 'NORMAL2-IM-0246')
      >>> parse_name("cats/tabby.png")
      ('', 'cats/tabby.png')
    """
    file = name.rpartition("/")[2]
    if person := _PERSON.fullmatch(file):
        return person[2], person[1]
    if study := _STUDY.fullmatch(file):
        return "", study[1]
    return "", name
