"""Files are whole or absent, and settings that differ are refused by name."""

import errno
import json
import os
import stat

import pytest

from bfjax import storage


def interrupted(path):
    with storage.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(RuntimeError, match="midway"):
        interrupted(path)
    assert list(path.parent.iterdir()) == []
    with storage.replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(RuntimeError, match="midway"):
        interrupted(path)
    assert path.read_text() == "whole"
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_rights_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        storage.write_json(tmp_path / "file.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == mode


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_names_the_file_and_says_what_to_do(tmp_path, code):
    told = f"no room for .*file.json .{os.strerror(code)}.*the same command goes on"
    with pytest.raises(OSError, match=told), storage.replacing(tmp_path / "file.json"):
        raise OSError(code, os.strerror(code))
    with pytest.raises(PermissionError), storage.replacing(tmp_path / "file.json"):
        raise PermissionError(errno.EACCES, "not yours")  # has another remedy


def test_json_comes_back_and_holds_no_nan(tmp_path):
    value = {"name": "ü", "numbers": [1, 2.5, None]}
    storage.write_json(tmp_path / "a.json", value)
    assert storage.read_json(tmp_path / "a.json") == value
    assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert storage.read_json(tmp_path / "none.json") == {}
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert storage.read_json(tmp_path / "a.json") == value
    (tmp_path / "a.json").write_text('{"half":')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON; delete it or choose another"):
        storage.read_json(tmp_path / "a.json")


def test_other_settings_are_refused_naming_the_first(tmp_path):
    path = tmp_path / "run" / "settings.json"
    storage.same_settings(path, {"seed": 0, "degree": 3})
    storage.same_settings(path, {"degree": 3, "seed": 0})
    for other, told in (({"seed": 1, "degree": 3}, "seed was 0, now it is 1"),
                        ({"degree": 3}, "seed was 0, now it is None"),
                        ({"seed": 0, "degree": 3, "a": 1}, "a was None, now it is 1")):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            storage.same_settings(path, other)
    assert json.loads(path.read_text()) == {"seed": 0, "degree": 3}
