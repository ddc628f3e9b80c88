"""Files, folders and lists whose names tell a patient: nothing of them gets into a result."""

import csv
import hashlib

import pytest

from bfjax import cli
from bfjax.evaluation import load_run
from tests.data.conftest import write_files
from tests.data.test_derived import PLANTED
from tests.evaluation.test_native import run, scan

FIRST, SECOND = scan(2, (33, 47), "left"), scan(3, (40, 40), "right")
SECRETS = (
    *(PLANTED["SOPInstanceUID"], PLANTED["SeriesInstanceUID"], PLANTED["PatientID"]),
    *("jane", "doe,", "19700131", "1970-01-31", "1.2.840.99999"),
)
LAYOUTS = {
    "named by its instance": lambda i: f"{PLANTED['SOPInstanceUID']}.{i}",
    "in a folder of its series": lambda i: f"{PLANTED['SeriesInstanceUID']}/{i}.dcm",
    "in a folder of the patient": lambda i: f"Doe, Jane (1970-01-31)/{PLANTED['PatientID']}/{i}",
}


def secrets_in(folder):
    """The secrets that any file of a folder, or its name, holds."""
    text = b"".join(
        str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    ).lower()
    return [secret for secret in SECRETS if secret.lower().encode() in text]


def names_in(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file)]


def anonymous(data):
    return f"dicom-{hashlib.sha256(data).hexdigest()[:16]}.dcm"


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYOUTS)
def test_no_result_tells_a_patient(kind, tmp_path, capsys):
    root, out = tmp_path / "Jane Doe" / "images", tmp_path / "out"
    place = LAYOUTS[kind]
    files = {
        f"left/{place(1)}": FIRST,
        f"right/{place(2)}": SECOND,
        f"left/{place(3)}": FIRST[:400],
    }
    write_files(root, files)
    assert secrets_in(root)
    assert run(root, out, "--native", "--gallery", 2, "--skip-bad") == 0
    assert cli.main(["report", str(out), "--data", str(root)]) == 0
    assert names_in(out / "records.csv") == [
        f"left/{anonymous(FIRST)}", f"right/{anonymous(SECOND)}",
    ]  # fmt: skip
    assert names_in(out / "skipped.csv") == [f"left/{anonymous(FIRST[:400])}"]
    assert secrets_in(out) == []
    assert load_run(out, where=str(root)).source.names == names_in(out / "records.csv")
    with pytest.raises(FileNotFoundError, match="--data says where the images lie now"):
        load_run(out)
    assert not [s for s in SECRETS[:3] if s in capsys.readouterr().out]


@pytest.mark.slow
def test_a_list_of_labels_in_the_folder_of_a_patient(tmp_path):
    root, out = tmp_path / "Jane Doe" / "images", tmp_path / "out"
    write_files(root, {"1.dcm": FIRST, "2.dcm": SECOND})
    table = root.parent / "labels.csv"
    table.write_text("file,left,right\n1.dcm,1,0\n2.dcm,0,1\n")
    assert run(root, out, "--gallery", 0, "--labels", table) == 0
    assert secrets_in(out) == []
    moved = tmp_path / "elsewhere"
    root.parent.rename(moved)
    found = load_run(out, where=str(moved / "images"))
    assert found.source.labels.tolist() == [0, 1]


def test_one_image_that_is_named_by_its_instance(tmp_path):
    path = tmp_path / PLANTED["SOPInstanceUID"]
    path.write_bytes(FIRST)
    out = tmp_path / "out"
    assert run(path, out, "--gallery", 0, "--label", 0) == 0
    assert names_in(out / "records.csv") == [anonymous(FIRST)]
    assert secrets_in(out) == []
    assert run(path, out, "--gallery", 0, "--label", 0) == 0  # finished, and known again


def test_an_error_names_the_file_for_its_owner(tmp_path, capsys):
    name = f"left/{PLANTED['SOPInstanceUID']}"
    write_files(tmp_path, {name: FIRST[:400], "right/b.dcm": SECOND})
    assert run(tmp_path, tmp_path / "out") == 1
    assert f"{tmp_path}/{name}: " in capsys.readouterr().err
