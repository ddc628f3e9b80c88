"""With a hub of our own in place of Hugging Face's client: no test goes to the network."""

import sys
import types

import numpy as np
import pytest

from bfjax import models
from bfjax.models import hub
from bfjax.models.registry import weights_of


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A `huggingface_hub` that has one repository, and a list of what was asked of it."""
    model = models.build("mobilenet_v2", width=0.35, seed=5)
    file = models.save(model, tmp_path / "cache") / "model.safetensors"
    asked = []

    def hf_hub_download(repo_id, filename, *, revision=None):
        asked.append((repo_id, filename, revision))
        if repo_id != "timm/small":
            raise OSError("404: no such repository")
        return str(file)

    module = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return types.SimpleNamespace(model=model, asked=asked)


@pytest.mark.parametrize(("name", "revision"), [("timm/small", None), ("timm/small@v1.0", "v1.0")])
def test_weights_come_from_the_hub(fake_hub, name, revision):
    fresh = models.build("mobilenet_v2", width=0.35)
    model = models.load_pretrained(fresh, f"hf:{name}")
    assert fake_hub.asked == [("timm/small", "model.safetensors", revision)]
    expected = weights_of(fake_hub.model)
    assert not np.array_equal(fresh.stem.kernel[...], expected["stem/kernel"])
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(array, expected[name])


def test_what_the_hub_lacks_is_named(fake_hub):
    with pytest.raises(FileNotFoundError, match=r"model.safetensors of hf:timm/none: 404"):
        hub.fetch("hf:timm/none")


@pytest.mark.parametrize("name", ["hf:", "hf:timm", "hf:timm/", "hf:a/b/c", "hf:@v1", "timm/small"])
def test_other_names_are_refused_before_anything_is_asked(fake_hub, name):
    with pytest.raises(ValueError, match="owner/repository"):
        hub.fetch(name)
    assert not fake_hub.asked


def test_without_the_extra_its_installation_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'bfjax\[hub\]'"):
        hub.fetch("hf:timm/small")
