"""A little chest_xray in Kaggle's layout, as a folder and as a zip file."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KAGGLE_FILES = {
    "train": {
        "NORMAL": ["IM-0115-0001.jpeg", "NORMAL2-IM-0246-0001-0001.jpeg"],
        "PNEUMONIA": ["person1_bacteria_1.jpeg", "person1_bacteria_2.jpeg", "person7_virus_9.jpeg"],
    },
    "val": {"NORMAL": ["IM-0200-0001.jpeg"], "PNEUMONIA": ["person80_virus_150.jpeg"]},
    "test": {
        "NORMAL": ["IM-0001-0001.jpeg", "IM-0003-0001.jpeg"],
        "PNEUMONIA": ["person1_virus_6.jpeg"],
    },
}


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def kaggle_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for split, classes in KAGGLE_FILES.items():
        for label, names in classes.items():
            for name in names:
                pixels = rng.integers(0, 256, (30, 40), dtype=np.uint8)
                files[f"chest_xray/{split}/{label}/{name}"] = encoded(
                    Image.fromarray(pixels), "JPEG"
                )
    return files


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture
def kaggle_folder(tmp_path) -> Path:
    """A home that holds `chest_xray/`, unzipped: with the second copy and Apple's extras."""
    home = tmp_path / "folder_home"
    for prefix in ("", "chest_xray/"):
        write_files(home, {prefix + name: data for name, data in kaggle_files().items()})
    write_files(
        home,
        {
            "chest_xray/__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg": b"\0\5\x16\7",
            "chest_xray/train/.DS_Store": b"\0\0\0\1Bud1",
            "chest_xray/train/NORMAL/.DS_Store": b"\0\0\0\1Bud1",
            "chest_xray/README.txt": b"beside the splits",
        },
    )
    return home


@pytest.fixture
def kaggle_zip(tmp_path) -> Path:
    """A home that holds Kaggle's zip file: the tree twice, and what Apple's zip adds."""
    home = tmp_path / "zip_home"
    home.mkdir()
    with zipfile.ZipFile(home / "archive.zip", "w") as archive:
        for name, data in kaggle_files().items():
            archive.writestr(name, data)
            archive.writestr("chest_xray/" + name, data)
            folder, _, file = name.rpartition("/")
            archive.writestr(f"chest_xray/__MACOSX/{folder}/._{file}", b"\0\5\x16\7")
            archive.writestr(f"__MACOSX/{folder}/._{file}", b"\0\5\x16\7")
        archive.writestr("chest_xray/chest_xray/.DS_Store", b"\0\0\0\1Bud1")
    return home
