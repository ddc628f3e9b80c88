"""What of a header is told again, and what a validator that is not ours says of the new file."""

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from bfjax.data import to_float
from bfjax.data.derived import derived_dicom
from bfjax.data.dicom import decode_dicom
from bfjax.data.whitelist import BODY_PARTS, VIEWS, harmless

from .test_derived import PLANTED, SHAPE, altered, original
from .test_dicom import TEST_FILES, dataset, refusal, written

SYNTAX = "1.2.840.10008.1.2."


def header(**tags) -> Dataset:
    return dataset(np.zeros(SHAPE, np.uint8), 8, **tags)


def item(**tags) -> list[Dataset]:
    new = Dataset()
    for tag, value in tags.items():
        setattr(new, tag, value)
    return [new]


def told(path) -> Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ({"BodyPartExamined": "CHEST"}, {}),
        ({"BodyPartExamined": "CHEST", "Laterality": "L"}, {}),  # of what has no side
        ({"BodyPartExamined": "KNEE", "Laterality": "L"}, {"Laterality": "L"}),
        ({"BodyPartExamined": "KNEE"}, {"Laterality": ""}),
        ({"BodyPartExamined": "EXTREMITY", "Laterality": "R"}, {"Laterality": "R"}),
        ({"BodyPartExamined": "FOREARM", "Laterality": "JANE"}, {"Laterality": ""}),
        ({"BodyPartExamined": "JANES KNEE", "Laterality": "R"}, {"Laterality": "R"}),
        ({}, {"Laterality": ""}),
        ({"BodyPartExamined": "BREAST", "ImageLaterality": "R"}, {"ImageLaterality": "R"}),
        (  # one of the two is enough, and the image's is the closer one
            {"BodyPartExamined": "HAND", "ImageLaterality": "B", "Laterality": "L"},
            {"ImageLaterality": "B"},
        ),
        ({"BodyPartExamined": "CHEST", "ImageLaterality": "U"}, {"ImageLaterality": "U"}),
        ({"ImageLaterality": "JANE"}, {"Laterality": ""}),
    ],
)
def test_the_side_is_told_where_the_part_has_one(tags, kept, tmp_path):
    derived_dicom(original(**tags), altered(), tmp_path / "new.dcm")
    new = told(tmp_path / "new.dcm")
    assert {t: new[t].value or "" for t in ("Laterality", "ImageLaterality") if t in new} == kept


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ({"BodyPartExamined": "EXTREMITY", "ViewPosition": "LLO"}, ("EXTREMITY", "LLO")),
        ({"BodyPartExamined": "BREAST", "ViewPosition": "MLO"}, ("BREAST", "MLO")),
        ({"BodyPartExamined": "BREAST", "ViewPosition": "CC"}, ("BREAST", "CC")),
        ({"BodyPartExamined": "CHEST", "ViewPosition": "LATERAL"}, ("CHEST", "LATERAL")),
        ({"ViewPosition": "JANES", "BodyPartExamined": "JANE"}, ("", "")),
        ({"ViewCodeSequence": item(CodeValue="399368009")}, ("", "MLO")),
        ({"ViewCodeSequence": item(CodeValue="R-10242")}, ("", "CC")),
        ({"ViewCodeSequence": item(CodeValue="R-10206", CodeMeaning="of Jane")}, ("", "AP")),
        ({"ViewPosition": "PA", "ViewCodeSequence": item(CodeValue="R-10206")}, ("", "PA")),
        ({"ViewCodeSequence": item(CodeValue="JANE")}, ("", "")),
        ({"ViewCodeSequence": []}, ("", "")),
    ],
)
def test_parts_and_views_are_kept_where_they_are_terms(tags, kept, tmp_path):
    derived_dicom(original(**tags), altered(), tmp_path / "new.dcm")
    new = told(tmp_path / "new.dcm")
    assert (new.BodyPartExamined, new.ViewPosition) == kept


def test_a_term_in_small_letters_is_that_term(tmp_path):
    data = original(BodyPartExamined="CHEST", ViewPosition="PA").replace(b"CHEST", b"Chest")
    derived_dicom(data, altered(), tmp_path / "new.dcm")
    assert told(tmp_path / "new.dcm").BodyPartExamined == "CHEST"


def test_the_codes_of_views_are_those_of_pydicom():
    """SNOMED codes and meanings as pydicom took them from the standard's context groups."""
    from pydicom.sr._concepts_dict import concepts

    meanings = {
        code: meaning
        for entry in concepts["SCT"].values()
        for code, (meaning, groups) in entry.items()
        if {4010, 4014} & set(groups)
    }
    letters = {
        view: "".join(word[0] for word in meanings[codes[0]].replace("-", " ").split()).upper()
        for view, codes in VIEWS.items()
        if codes
    }
    other = {"LATERAL": "L", "FB": "CC", "SIO": "STIO", "ISO": "ITSO"}
    other |= {"XCCL": "CCEL", "XCCM": "CCEM"}
    assert letters == {view: other.get(view, view) for view in letters}


# A compressed frame's first bytes: as much of a codestream as says whether it is exact.
NEAR = b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x06\x00\x07\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00"
J2K = b"\xff\x4f\xff\x51\x00\x04\x00\x00\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00"
FRAMES = {
    "near 2": NEAR + b"\x02\x00\x00\xff\xd9",
    "near 0": NEAR + b"\x00\x00\x00\xff\xd9",
    "9-7": J2K + b"\x00\xff\xd9",
    "5-3": J2K + b"\x01\xff\xd9",
    "JP2": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    "JPEG": b"\xff\xd8\xff\xd9",
    "RLE": bytes(64),
}


def compressed(frame: str, syntax: str, **tags) -> Dataset:
    new = header(**tags)
    new.PixelData = encapsulate([FRAMES[frame]])
    new.file_meta.TransferSyntaxUID = uid.UID(SYNTAX + syntax)
    return new


@pytest.mark.parametrize(
    ("frame", "syntax", "said", "expected"),
    [
        ("JPEG", "4.50", None, "01"),  # JPEG baseline
        ("JPEG", "4.50", "00", "01"),
        ("JPEG", "4.51", None, "01"),  # extended
        ("JPEG", "4.57", None, None),  # lossless
        ("JPEG", "4.70", "00", "00"),
        ("JPEG", "4.70", "01", "01"),  # lossless, of what was lossy before
        ("near 2", "4.81", None, "01"),  # JPEG-LS
        ("near 2", "4.81", "00", "01"),
        ("near 0", "4.81", "00", "00"),
        ("near 0", "4.81", None, "01"),
        ("near 0", "4.80", None, None),
        ("9-7", "4.91", None, "01"),  # JPEG 2000
        ("9-7", "4.91", "00", "01"),
        ("5-3", "4.91", "00", "00"),
        ("5-3", "4.91", None, "01"),  # exact or cut short: nobody can tell
        ("JP2", "4.91", "00", "01"),
        ("5-3", "4.90", None, None),
        ("9-7", "4.203", None, "01"),  # High-Throughput JPEG 2000
        ("5-3", "4.201", None, None),
        ("RLE", "5", None, None),  # RLE
    ],
)
def test_a_loss_in_the_past_is_told(frame, syntax, said, expected):
    tags = {} if said is None else {"LossyImageCompression": said}
    assert harmless(compressed(frame, syntax, **tags)).get("LossyImageCompression") == expected


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ({}, {}),
        ({"LossyImageCompression": "JANE"}, {}),
        ({"LossyImageCompression": "00", "LossyImageCompressionRatio": 1}, {"": "00"}),
        ({"LossyImageCompressionRatio": 12.5}, {"": "01"}),
        ({"LossyImageCompressionMethod": "ISO_10918_1"}, {"": "01"}),
        ({"DerivationCodeSequence": item(CodeValue="113040")}, {"": "01"}),
        (
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
                "LossyImageCompressionRatio": [12.5, 3],
            },
            {"": "01", "Method": ["ISO_10918_1", "ISO_15444_1"], "Ratio": [12.5, 3]},
        ),
        (
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionMethod": "JANE",
                "LossyImageCompressionRatio": 3,
            },
            {"": "01"},
        ),
        (
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionMethod": "ISO_10918_1",
                "LossyImageCompressionRatio": [3, -4],
            },
            {"": "01"},
        ),
    ],
)
def test_how_it_came_about_is_told_where_it_is_told_rightly(tags, kept):
    found = harmless(header(**tags))
    there = {name: found.get(f"LossyImageCompression{name}") for name in ("", "Method", "Ratio")}
    assert {name: value for name, value in there.items() if value is not None} == kept


def test_numbers_that_are_none_are_left_out(tmp_path):
    """A header's number is looked at only when it is read, and then raises."""
    new = header()
    for tag in (0x00280030, 0x00282112):  # PixelSpacing, LossyImageCompressionRatio
        new.add_new(tag, "LO", "JANE" if tag & 2 else ["JANE", "JANE"])
    data = written(new).replace(b"\x28\x00\x30\x00LO", b"\x28\x00\x30\x00DS")
    data = data.replace(b"\x28\x00\x12\x21LO", b"\x28\x00\x12\x21DS")
    derived_dicom(data, altered(), tmp_path / "new.dcm")
    new = told(tmp_path / "new.dcm")
    assert not {"PixelSpacing", "LossyImageCompressionRatio"} & set(new.dir())


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["MAROTECH_CT_JP2Lossy.dcm", "JPEGLSNearLossless_16.dcm"])
def test_real_files_that_only_their_transfer_syntax_calls_lossy(name, data_root, tmp_path):
    file = data_root / "cases" / "files" / name
    assert "LossyImageCompression" not in told(file)
    derived_dicom(file, altered((told(file).Rows, told(file).Columns)), tmp_path / "new.dcm")
    assert told(tmp_path / "new.dcm").LossyImageCompression == "01"


# What dciodvfy (David Clunie's dicom3tools) calls an error, of the files that are written.

SOP_CLASSES = (uid.ComputedRadiographyImageStorage, uid.SecondaryCaptureImageStorage)


def test_dciodvfy_finds_what_is_wrong(dciodvfy, tmp_path):
    new = header(BodyPartExamined="CHEST", Laterality="")
    (tmp_path / "bad.dcm").write_bytes(written(new))
    assert any("Laterality" in error for error in dciodvfy(tmp_path / "bad.dcm"))


@pytest.mark.slow
def test_dciodvfy_finds_no_error_whatever_the_body_part(dciodvfy, tmp_path):
    """With each view, side and class in turn."""
    path = tmp_path / "new.dcm"
    for i, part in enumerate(sorted(BODY_PARTS)):
        tags = {
            "BodyPartExamined": part,
            "SOPClassUID": SOP_CLASSES[i % 2],
            "ViewPosition": sorted(VIEWS)[i % len(VIEWS)],
            "Laterality": ("", "L", "R")[i % 3],
            "ImageLaterality": ("", "", "", "R", "L", "U", "B")[i % 7],
        }
        derived_dicom(original(**tags), altered(), path)
        assert told(path).BodyPartExamined == part
        assert dciodvfy(path) == [], tags


@pytest.mark.parametrize("sop_class", SOP_CLASSES)
def test_dciodvfy_finds_no_error_whatever_else_is_said(sop_class, dciodvfy, tmp_path):
    path = tmp_path / "new.dcm"
    modalities = ("CR", "DX", "MG", "CT", "OT", "PX", "BMD", "RTIMAGE", "SC", "JANE", "")
    more = (
        {},
        {"FrameOfReferenceUID": "1.2.3", "PixelSpacing": [1 / 7, 0.2]},
        {"ImagerPixelSpacing": [0.143, 0.143], "BurnedInAnnotation": "YES"},
        {"LossyImageCompression": "01", "PixelSpacing": [0.1, 0.1]},
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
            "LossyImageCompressionRatio": [1 / 3, 12],
        },
        PLANTED,
    )
    parts = ("CHEST", "KNEE", "BREAST", "")
    for i, bits in enumerate(range(1, 17)):
        tags = {"BodyPartExamined": parts[i % 4], "Modality": modalities[i % len(modalities)]}
        tags |= {"ViewPosition": "PA"} | more[i % len(more)] | {"SOPClassUID": sop_class}
        photometric = ("MONOCHROME1", "MONOCHROME2")[i % 2]
        derived_dicom(original(bits, photometric, **tags), altered(), path)
        assert dciodvfy(path) == [], (bits, tags)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of headers that say too little
def test_dciodvfy_finds_no_error_in_what_comes_of_pydicoms_files(dciodvfy, tmp_path):
    read = 0
    for file in sorted(TEST_FILES.glob("*.dcm")):
        if refusal(file, file.name) is None:
            derived_dicom(file, to_float(decode_dicom(file)), tmp_path / "new.dcm")
            assert dciodvfy(tmp_path / "new.dcm") == [], file.name
            read += 1
    assert read > 15


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning")  # of headers that say too little
def test_dciodvfy_finds_no_error_in_what_comes_of_the_cases(dciodvfy, data_root, tmp_path):
    files = sorted((data_root / "cases" / "files").glob("*.dcm"))
    readable = [file for file in files if refusal(file, file.name) is None]
    for file in readable:
        derived_dicom(file, to_float(decode_dicom(file)), tmp_path / "new.dcm")
        assert dciodvfy(tmp_path / "new.dcm") == [], file.name
    assert readable
