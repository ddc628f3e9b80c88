"""Names of DICOM files that tell who is on them, and those that may be shown."""

import hashlib
import importlib.util
import io
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from bfjax.data import ImageError, Subset, load, tells_patient
from bfjax.data.identity import Identity, identity, tells

from .conftest import encoded, write_files
from .test_derived import IDENTIFYING, PLANTED
from .test_dicom import dataset, written

UID = PLANTED["SOPInstanceUID"]


def scan(seed=0, **header) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 4096, (6, 6)).astype(np.uint16)
    return written(dataset(pixels, 12, **header))


def anonymous(data: bytes) -> str:
    return f"dicom-{hashlib.sha256(data).hexdigest()[:16]}.dcm"


TELLING = {
    "SOP instance": f"{UID}.dcm",
    "SOP instance without ending": UID,
    "a folder of the series": f"{PLANTED['SeriesInstanceUID']}/1.dcm",
    "a folder of the study": f"x/{PLANTED['StudyInstanceUID']}/y/1.dcm",
    "the UID with other signs": f"img_{UID.replace('.', '_')}.dcm",
    "another UID": "1.3.12.2.1107.5.1.4.dcm",
    "id": "MRN-471147.dcm",
    "id in other signs": "scan of mrn 471147, left.dcm",
    "another id": "OPID_2.dcm",
    "family name": "doe.dcm",
    "family name, in a word": "JohnDoeScan.dcm",
    "given name, in a folder": "Jane/IM1",
    "accession": "acc0815-1.dcm",
    "study id": "study77.dcm",
    "birth date": "1970-01-31.dcm",
    "birth date the other way round": "31.01.1970.dcm",
    "day of the study": "x/20200229/1.dcm",
    "whoever referred": "for craig.dcm",
    "device": "SN31337.dcm",
    "deep in a sequence": "1.2.840.99999.5.dcm",
    "birth date without its century": "700131 left.dcm",
    "hospital": "St_Elsewhere/1.dcm",
    "station": "BAY-9.dcm",
}
SILENT = ("1.dcm", "scan.dcm", "left/IM-0001.dcm", "CHEST PA", "v2.1.dcm", "2020.dcm")


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("why", TELLING)
def test_a_name_that_tells_is_replaced(why, kind, tmp_path):
    files = {f"A/{TELLING[why]}": IDENTIFYING, "B/scan.dcm": IDENTIFYING}
    root = tmp_path / "root"
    if kind == "folder":
        write_files(root, files)
    else:
        with zipfile.ZipFile(root, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    source = load(root, "all", image_size=4)
    assert source.names == [f"A/{anonymous(IDENTIFYING)}", "B/scan.dcm"]
    assert [record["name"] for record in source] == source.names
    assert source.labels.tolist() == [0, 1]
    assert source.path(0) == f"{root}/A/{TELLING[why]}"
    assert source.content(0) == IDENTIFYING


def test_a_name_that_tells_nothing_stays(tmp_path):
    write_files(tmp_path, {f"A/{name}": IDENTIFYING for name in SILENT})
    write_files(tmp_path, {f"B/{UID}.png": encoded_png()})  # it has no header
    source = load(tmp_path, "all", image_size=4)
    assert source.names == [*(f"A/{name}" for name in sorted(SILENT)), f"B/{UID}.png"]


def encoded_png() -> bytes:
    from PIL import Image

    return encoded(Image.new("L", (6, 6), 9), "PNG")


def test_names_stay_unique(tmp_path):
    one, two = scan(1, **PLANTED), scan(2, **PLANTED)
    files = {f"{UID}.{i}": data for i, data in enumerate((one, two, one, one))}
    write_files(tmp_path, files)
    source = load(tmp_path, unlabelled=True, image_size=4)
    assert len(set(source.names)) == 4
    assert source.names[:2] == [anonymous(one), anonymous(two)]
    assert source.names[2] == anonymous(one).replace(".dcm", "-again.dcm")


def test_images_without_class_folders(tmp_path):
    data = scan(1, **PLANTED)
    write_files(tmp_path, {f"x/{UID}": data, "JANE/DOE/1": data})
    source = load(tmp_path / "x" / UID, unlabelled=True, image_size=4)
    assert source.names == [anonymous(data)]
    assert source.public(str(tmp_path / "x" / UID)) == str(tmp_path / "x" / anonymous(data))
    source = load(tmp_path / "JANE", unlabelled=True, image_size=4)
    assert source.public(str(tmp_path / "JANE")) == str(tmp_path / "anonymous")
    assert Subset(source, [0]).public("JANE/x") == "anonymous/x"
    assert source.public("images/of patients") == "images/of patients"


def test_labels_are_found_by_the_real_name(tmp_path):
    write_files(tmp_path / "r", {f"{UID}.dcm": scan(1, **PLANTED), "b.dcm": scan(2, **PLANTED)})
    (tmp_path / "t.csv").write_text(f"f,X\n{UID},1\nb,0\n")
    source = load(tmp_path / "r", "all", labels=tmp_path / "t.csv")
    assert dict(zip(source.names, source.labels, strict=True)) == {
        anonymous(scan(1, **PLANTED)): 1, "b.dcm": 0,
    }  # fmt: skip


def test_patients_of_dicom_files_are_told_by_their_headers(tmp_path):
    who = {"a": "P-7", "b": "P-8", "c": "P-7", f"{UID}.1": "P-8", "d": None}
    who["00000012_000.dcm"] = "X"
    for i, (name, patient) in enumerate(who.items()):
        header = {} if patient is None else {"PatientID": patient}
        write_files(tmp_path, {f"A/{name}": scan(i, **header)})
    source = load(tmp_path, "all", image_size=4)
    groups = dict(zip(source.names, source.groups, strict=True))
    (hidden,) = [name for name in source.names if "dicom-" in name]
    assert groups["A/a"] == groups["A/c"] != groups["A/b"] == groups[hidden]
    assert groups["A/00000012_000.dcm"] == "00000012"
    assert groups["A/d"] == "A/d"
    assert [n for n, g in groups.items() if not tells_patient(n, g)] == ["A/d"]
    assert not any(str(p) in group for group in groups.values() for p in ("P-7", "P-8"))


def test_folders_of_patients_are_no_classes(tmp_path):
    for i, name in enumerate(("DOE^JOHN", "ROE^ROWENA")):
        folder = name.replace("^", "_")
        data = {f"{folder}/{k}.dcm": scan(2 * i + k, PatientName=name) for k in range(2)}
        write_files(tmp_path, data)
    folders = ["DOE_JOHN", "ROE_ROWENA"]
    source = load(tmp_path, unlabelled=True, image_size=4)
    assert (source.class_names, source.labels.tolist()) == ((), [-1] * 4)
    assert source.names == [anonymous(source.content(i)) for i in range(4)]
    with pytest.raises(ValueError, match="are named after the patients on their images"):
        load(tmp_path, "all", image_size=4)
    source = load(tmp_path, "all", image_size=4, class_names=folders)
    assert source.class_names == (*folders,)
    write_files(tmp_path, {"DOE_JOHN/0.dcm": scan(9, PatientName="Poe^E")})
    assert load(tmp_path, "all", unlabelled=True, image_size=4).class_names == (*folders,)


def test_a_patient_in_a_path_does_not_become_a_group(tmp_path):
    data = scan(1, PatientID="p10000032")
    files = ("A/p10/p10000032/s50414267/1.dcm", "B/p10000032_s50414267.dcm")
    write_files(tmp_path, dict.fromkeys(files, data))
    source = load(tmp_path, "all", image_size=4)
    assert source.names == [f"A/{anonymous(data)}", f"B/{anonymous(data)}"]
    assert source.groups[0] == source.groups[1]
    assert "10000032" not in source.groups[0]
    assert all(map(tells_patient, source.names, source.groups))


def test_a_header_that_cannot_be_read_might_say_anything(tmp_path):
    cut = IDENTIFYING[:140] + b"\xff" * 40
    write_files(tmp_path, {"A/DOE": cut, "A/DOE.dcm": b"", "B/b.png": encoded_png()})
    source = load(tmp_path, "all", image_size=4)
    assert source.names == [f"A/{anonymous(cut)}", f"A/{anonymous(b'')}", "B/b.png"]
    with pytest.raises(ImageError, match="A/DOE"):  # for the eyes of the owner
        source[0]


def test_a_bomb_is_not_inflated_for_its_header(monkeypatch):
    bomb = dataset(np.zeros((8, 8), np.uint16), 12)
    bomb.add_new(0x7FE10010, "OB", bytes(2**24))
    data = written(bomb, uid.DeflatedExplicitVRLittleEndian)
    assert identity(io.BytesIO(data)).certain
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert not identity(io.BytesIO(data)).certain


def test_without_pydicom_uids_alone_are_known(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pydicom" else find(name)
    )
    write_files(tmp_path, {f"A/{UID}": IDENTIFYING, "A/b": IDENTIFYING})
    assert load(tmp_path, "all").names == [f"A/{anonymous(IDENTIFYING)}", "A/b"]
    assert identity(io.BytesIO(IDENTIFYING)) == Identity("", frozenset(), frozenset())


def test_short_ids_count_as_words_alone():
    who = identity(io.BytesIO(scan(1, PatientID="7", StudyID="1", PatientName="Li^Bo")))
    assert tells("7.dcm", who)
    assert tells("a/patient 7/x.dcm", who)
    assert not any(tells(name, who) for name in ("77.dcm", "1.dcm", "li.dcm", "x7y.dcm"))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Müller^Jörg", "Mueller.dcm"),
        ("MUELLER^JOERG", unicodedata.normalize("NFD", "Müller.dcm")),
        ("Sørensen^Åse", "Sorensen.dcm"),
        ("Sorensen^Ase", "Sørensen.dcm"),
        ("Strauß^A", "strauss.dcm"),
        ("Li^Bo", "LI_BO.dcm"),
        ("Li^Bo", "bo li/1.dcm"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田.dcm"),
        ("Wang^X=王^小", "王小.dcm"),
        ("DOE_JOHN", "john.dcm"),
        ("O'Brien^Pat", "O_Brien.dcm"),
    ],
)
def test_a_name_in_another_spelling(header, name):
    new = scan(1, SpecificCharacterSet="ISO_IR 192", PatientName=header)
    assert tells(name, identity(io.BytesIO(new)))


@pytest.mark.parametrize(("number", "name"), [("0001234", "1234.dcm"), ("007", "7.dcm")])
def test_an_id_without_its_zeros(number, name):
    who = identity(io.BytesIO(scan(1, PatientID=number)))
    assert tells(name, who)
    assert not tells(f"1{number.lstrip('0')[:-1]}9.dcm", who)


@pytest.mark.real_data
def test_names_of_other_files_are_as_they_were(data_root):
    source = load(data_root / "chest_xray", "val")
    assert all(name.endswith(".jpeg") for name in source.names)
    assert {name.partition("/")[0] for name in source.names} == {"NORMAL", "PNEUMONIA"}
