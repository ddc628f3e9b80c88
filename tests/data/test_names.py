import csv

import pytest

from bfjax.data import load
from bfjax.data.names import parse_name

REAL = [
    ("NORMAL/IM-0115-0001.jpeg", "", "IM-0115"),
    ("NORMAL/IM-0011-0001-0002.jpeg", "", "IM-0011"),
    ("NORMAL/NORMAL2-IM-0382-0001.jpeg", "", "NORMAL2-IM-0382"),
    ("NORMAL/NORMAL2-IM-1096-0001-0003.jpeg", "", "NORMAL2-IM-1096"),
    ("PNEUMONIA/person1_virus_6.jpeg", "virus", "person1"),
    ("PNEUMONIA/person1020_bacteria_2966.jpeg", "bacteria", "person1020"),
    ("PNEUMONIA/person447_virus_921_1.jpeg", "virus", "person447"),
    ("NORMAL/NORMAL-1003233-0001.jpeg", "", "1003233"),
    ("VIRUS-1003233-0002.jpeg", "", "1003233"),
    ("PNEUMONIA/person_1.jpeg", "", "PNEUMONIA/person_1.jpeg"),
    ("NORMAL/myperson1_virus_6.jpeg", "", "NORMAL/myperson1_virus_6.jpeg"),
    ("a/1.png", "", "a/1.png"),
]


@pytest.mark.parametrize(("name", "cause", "group"), REAL)
def test_names(name, cause, group):
    assert parse_name(name) == (cause, group)


COUNTS = {"train": (1341, 3875), "val": (8, 8), "test": (234, 390)}


@pytest.mark.real_data
def test_counts_and_manifest(data_root):
    with (data_root / "chest_xray" / "manifest.csv").open() as file:
        manifest = {(r["split"], f"{r['label']}/{r['file']}"): r for r in csv.DictReader(file)}
    seen = 0
    for split, counts in COUNTS.items():
        source = load(data_root / "chest_xray", split)
        assert source.class_names == ("NORMAL", "PNEUMONIA")
        assert tuple((source.labels == i).sum() for i in (0, 1)) == counts
        for name, label, group in zip(source.names, source.labels, source.groups, strict=True):
            row = manifest[split, name]
            assert source.class_names[label] == row["label"]
            assert parse_name(name)[0] == row["cause"]
            if row["person"]:
                assert group == f"person{row['person']}"
            else:
                assert row["file"].startswith(f"{group}-")
                assert group.removeprefix("NORMAL2-").startswith("IM-")
            seen += 1
    assert seen == len(manifest) == 5856
