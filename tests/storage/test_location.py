"""Where downloads lie, and what is told of how a result came about."""

import importlib.metadata
import json
import platform

from bfjax import storage


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "mine"))
    assert storage.home() == tmp_path / "mine"
    monkeypatch.setenv("BFJAX_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert storage.home() == tmp_path / "cache" / "bfjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.home() == tmp_path / ".cache" / "bfjax"
    assert not (tmp_path / ".cache").exists()  # it is only named


def test_the_environment_of_a_result_is_json_and_true():
    found = json.loads(json.dumps(storage.environment()))
    assert found["python"] == platform.python_version()
    for name, version in found["versions"].items():
        assert version == importlib.metadata.version(name)
    assert {"bfjax", "jax"} <= found["versions"].keys()
    assert "cpu" in found["device"]
    assert found["processor"]
