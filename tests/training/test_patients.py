import csv
import warnings

import numpy as np
import pytest
from PIL import Image

from bfjax import cli, data
from bfjax.training import resume
from bfjax.training.patients import split_patients, split_source
from tests.data.conftest import encoded, write_files
from tests.data.test_identity import scan

PICTURE = encoded(Image.linear_gradient("L").resize((8, 8)), "PNG")


def test_patients_stay_on_one_side():
    generator = np.random.default_rng(1)
    patient = generator.integers(0, 120, 600)
    labels = (patient % 4 > 0).astype(int)  # three quarters positive
    groups = [f"person{p}" for p in patient]
    train, held = split_patients(labels, groups, fraction=0.1, seed=0)
    assert sorted([*train, *held]) == list(range(600))
    assert not {groups[i] for i in train} & {groups[i] for i in held}
    for label in (0, 1):
        share = (labels[held] == label).sum() / (labels == label).sum()
        assert 0.1 <= share <= 0.15
    again = split_patients(labels, groups, fraction=0.1, seed=0)[1]
    other = split_patients(labels, groups, fraction=0.1, seed=1)[1]
    np.testing.assert_array_equal(held, again)
    assert set(held) != set(other)


def test_a_split_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="class 1 has 1 patients"):
        split_patients(np.array([0, 0, 1, 1]), ["a", "b", "c", "c"], fraction=0.5, seed=0)
    with pytest.raises(ValueError, match=r"\(0, 1\), got 1\.5"):
        split_patients(np.array([0, 0]), ["a", "b"], fraction=1.5, seed=0)
    options = {"fraction": 0.5, "seed": 0, "class_names": ("A", "B", "C")}
    with pytest.raises(
        ValueError, match=r"class B has 0 patients; class C has no training image: too few to spl"
    ):
        split_patients(np.array([0, 1, 0]), ["a", "a", "b"], **options)


def hexadecimal(generator):
    return "".join(generator.choice(list("0123456789abcdef"), 32))


def layout(kind, generator):
    """Paths of 16 patients with one to four images each, as a data set names them, with whose."""
    for patient in range(1, 17):
        for image in range(int(generator.integers(1, 5))):
            study = int(generator.integers(1, 3))
            number = f"p{10000000 + 37 * patient}"
            long = f"{2168401113669640 * 10**10 + 977 * patient + 13 * study}"
            yield (
                f"patient {patient}",
                {
                    "Kermany, ill": f"person{patient}_bacteria_{100 * patient + image}.jpeg",
                    "Kermany, well": f"NORMAL2-IM-{patient:04}-0001-{image:04}.jpeg",
                    "NIH": f"images_{image:03}/images/{patient:08}_{image:03}.png",
                    "CheXpert": f"patient{patient:05}/study{study}/view{image}_frontal.jpg",
                    "CheXpert, flat": f"patient{patient:05}_study{study}_view{image}_frontal.jpg",
                    "MIMIC-CXR": f"{number[:3]}/{number}/s5{study}414{patient:03}/{image}-02aa.dcm",
                    "MIMIC-CXR, flat": f"{number}_s5{study}414{patient:03}_{image}.png",
                    "VinDr-Mammo": f"{patient:032x}/{hexadecimal(generator)}.dicom",
                    "PadChest": f"{long}_0{image}-014-084.png",
                    "VinDr-CXR": f"{hexadecimal(generator)}.dicom",
                    "unknown": f"{hexadecimal(generator)[:9]}-{image}.png",
                }[kind],
            )


TOLD = [
    *("Kermany, ill", "Kermany, well", "NIH", "CheXpert", "CheXpert, flat", "MIMIC-CXR"),
    *("MIMIC-CXR, flat", "VinDr-Mammo"),
]
NOT_TOLD = ["PadChest", "VinDr-CXR", "unknown"]


def placed(tmp_path, kind):
    """The source of such a data set in two class folders, and the patient of each path."""
    generator = np.random.default_rng(len(kind))
    whose = {}
    for patient, name in layout(kind, generator):
        label = "AB"[int(patient.split()[1]) % 2]
        whose[f"{label}/{name}"] = patient
    write_files(tmp_path / "images", dict.fromkeys(whose, PICTURE))
    return tmp_path / "images", whose


def sides(source, whose):
    split = split_source(source, fraction=0.3, seed=0)
    assert sum(map(len, split)) == len(whose)
    return [{whose[name] for name in part.names} for part in split]


@pytest.mark.parametrize("kind", TOLD)
def test_no_patient_of_a_known_layout_is_on_both_sides(kind, tmp_path):
    root, whose = placed(tmp_path, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, held = sides(data.load(root, "all", image_size=8), whose)
    assert train
    assert held
    assert not train & held


@pytest.mark.parametrize("kind", NOT_TOLD)
def test_names_that_do_not_tell_are_said(kind, tmp_path):
    root, whose = placed(tmp_path, kind)
    count = len(whose)
    with pytest.warns(UserWarning, match=f"^{count} of {count} names do not tell .* --groups"):
        sides(data.load(root, "all", image_size=8), whose)


HEADERS = {
    "PadChest": (("", "ImageID", "StudyID", "PatientID"), lambda n, p: ("0", n, 7, p)),
    "VinDr-CXR": (("image_id", "patient"), lambda n, p: (n.removesuffix(".dicom"), p)),
    "unknown": (("x", "y"), lambda n, p: (n, p)),
    "NIH": (("Image Index", "Finding Labels", "Patient ID"), lambda n, p: (n, "Edema|Mass", p)),
    "MIMIC-CXR": (("dicom_id", "subject_id", "study_id"), lambda n, p: (n[:-4], p, 5)),
    "CheXpert": (("Path", "Sex", "patient_id"), lambda n, p: (f"CheXpert-v1.0/{n}", "F", p)),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_a_table_says_whose_they_are(kind, tmp_path):
    root, whose = placed(tmp_path, kind)
    header, row = HEADERS[kind]
    bare = kind in ("PadChest", "VinDr-CXR", "NIH")  # whose names are unique without folders
    with (tmp_path / "whose.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for name, patient in whose.items():
            writer.writerow(row(name.rpartition("/")[2] if bare else name, patient))
    source = data.load(root, "all", image_size=8, groups=tmp_path / "whose.csv")
    assert source.groups == [whose[name] for name in source.names]
    train, held = sides(source, whose)
    assert not train & held


def test_bad_tables_of_patients_are_refused(tmp_path):
    write_files(tmp_path / "r", {f"{c}/{n}.png": PICTURE for c, n in ("Aa", "Ab", "Bc")})
    table = tmp_path / "t.csv"
    for text, told in {
        "f,p\na.png,1\nb.png,1\n": "1 of 3 images have no row, such as B/c.png",
        "f,p\na.png,1\nb.png,1\nc.png,2\na.png,2\n": r"several rows, such as A/a.png \(lines 2, 5",
        "f,p\na.png,\nb.png,1\nc.png,2\n": "names no patient in 1 rows, such as line 2",
        "f,x,y\na.png,1,1\n": "no column PatientID, subject_id or patient among f, x, y",
    }.items():
        table.write_text(text)
        with pytest.raises(ValueError, match=told):
            _ = data.load(tmp_path / "r", "all", groups=table).groups
    table.write_text("f,p\na.png,1\nb.png,1\nc.png,2\na.png,1\n")  # said twice alike
    assert data.load(tmp_path / "r", "all", groups=table).groups == ["1", "1", "2"]
    for text in (  # the other one, or the first of the others
        "patient,scan\n1,a.png\n1,b.png\n2,c.png\n",
        "patient,scan,day\n1,a.png,x\n1,b.png,y\n2,c.png,x\n",
    ):
        table.write_text(text)
        assert data.load(tmp_path / "r", "all", groups=table).groups == ["1", "1", "2"]


def test_what_is_noted_of_a_training_has_no_names_of_patients(tmp_path):
    root, whose = placed(tmp_path, "NIH")
    secret = {name: f"{patient} secret" for name, patient in whose.items()}
    with (tmp_path / "whose.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("f", "p"), *secret.items()])
    source = data.load(root, "all", image_size=8, groups=tmp_path / "whose.csv")
    assert all("secret" in group for group in source.groups)
    labels = resume.fingerprint(source).labels
    assert not [label for label in labels if "secret" in label]
    same = {(a, b) for a, b in zip(labels, source.groups, strict=True)}
    assert len(same) == len(set(labels)) == len(set(source.groups))


@pytest.mark.slow
def test_a_training_does_not_tell_after_whom_its_folder_is_named(tmp_path, capsys):
    root, out = tmp_path / "Doe, Jane", tmp_path / "out"
    for i, place in enumerate(
        f"{s}/{c}/{n}" for s in ("train", "test") for c in "AB" for n in "1234"
    ):
        write_files(root, {f"{place}.dcm": scan(i, PatientName="DOE^JANE", PatientID=f"P-{i}")})
    assert train(root, out) == 0
    assert b"Doe" not in (out / "config.json").read_bytes()
    assert train(root, out) == 0
    assert "finished before" in capsys.readouterr().out


def train(root, out, *options):
    small = ["--model", "convnet", "--image-size", 32, "--batch-size", 2, "--epochs", 1]
    arguments = ["train", "--data", root, "--out", out, *small, *options]
    return cli.main([str(word) for word in arguments])


def test_classes_that_cannot_be_trained_are_refused_by_name(tmp_path, capsys):
    for split in ("train", "test"):
        for name, count in (("A", 3), ("B", 1), ("C", 0)):
            (tmp_path / "r" / split / name).mkdir(parents=True)
            first = 10 * "ABC".index(name)
            files = {f"r/{split}/{name}/IM-{first + i}-0001.png": PICTURE for i in range(count)}
            write_files(tmp_path, files)
    assert train(tmp_path / "r", tmp_path / "out") == 1
    (note, line) = capsys.readouterr().err.splitlines()
    assert note.endswith("r, split test, holds no image of the class C")
    assert "class B has 1 patients; class C has no training image" in line
    write_files(tmp_path, {"s/train/A/IM-1-1.png": PICTURE, "s/test/A/IM-2-1.png": PICTURE})
    assert train(tmp_path / "s", tmp_path / "out") == 1
    assert "all images are of the class A: two are needed" in capsys.readouterr().err


def test_several_classes_of_an_image_are_not_trained(tmp_path, capsys):
    files = {f"r/{s}/{n}.png": PICTURE for s in ("train", "test") for n in "ab"}
    rows = [f"{s}/{n}.png,1,{int(n == 'a')}" for s in ("train", "test") for n in "ab"]
    write_files(tmp_path, files | {"t.csv": "\n".join(["f,X,Y", *rows]).encode()})
    assert train(tmp_path / "r", tmp_path / "out", "--labels", tmp_path / "t.csv") == 1
    assert "several of X, Y are true of some images" in capsys.readouterr().err


def test_all_bad_files_of_both_splits_are_told(tmp_path, capsys):
    for split in ("train", "test"):
        for i in range(6):
            content = b"" if i < 2 else PICTURE
            write_files(tmp_path, {f"r/{split}/{'AB'[i % 2]}/IM-{i:04}-0001.png": content})
    assert train(tmp_path / "r", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bfjax: error: 4 files cannot be read (--skip-bad leaves them out): ")
    assert all(
        f"{s}/{c}/IM-000{i}" in line for s in ("train", "test") for i, c in ((0, "A"), (1, "B"))
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:all outputs of the model lie in:UserWarning")
def test_training_leaves_bad_files_out(tmp_path, capsys):
    for split in ("train", "test"):
        for i in range(10):
            content = b"" if i == 3 else PICTURE
            write_files(tmp_path, {f"r/{split}/{'AB'[i % 2]}/IM-{i:04}-0001.png": content})
    assert train(tmp_path / "r", tmp_path / "out", "--skip-bad", "--validation", 0.3) == 0
    for split in ("train", "test"):
        text = (tmp_path / f"out/skipped-{split}.csv").read_text()
        assert text.splitlines() == [
            "file,reason",
            "B/IM-0003-0001.png,the file is empty (zero bytes)",
        ]
    assert "1 files that cannot be read are left out" in capsys.readouterr().err
    assert train(tmp_path / "r", tmp_path / "out", "--skip-bad", "--validation", 0.3) == 0
