import jax
import numpy as np
import pytest

from bfjax import cli, models
from bfjax.models import registry
from bfjax.training import ExportConfig, export_checkpoint
from bfjax.training.exported import parse_size


@pytest.fixture
def folder(tmp_path):
    metadata = {
        "class_names": ["NORMAL", "PNEUMONIA"],
        "image_size": 32,
        "resize": "pad",
        "metrics": {"test": {"accuracy": 0.5}},
        "training": {"seed": 3},
    }
    return models.save(models.build("convnet", seed=1), tmp_path / "model", metadata=metadata)


def config(folder, **changes):
    options = {"data": "phantom", "num_images": 12, "shard_size": "40kB"}
    return ExportConfig(**{"model": folder, "out": folder.parent / "out"} | options | changes)


def test_an_export_is_the_rounded_checkpoint_and_its_metrics_are_its_own(folder):
    exported = export_checkpoint(config(folder))
    assert len(exported.files) > 1
    before, after = (
        registry.weights_of(models.load_model(f)) for f in (folder, folder.parent / "out")
    )
    for name, weight in before.items():
        np.testing.assert_array_equal(after[name], np.asarray(weight).astype(np.float16), name)
    assert exported.before.count == exported.after.count == 12
    assert exported.before.loss != exported.after.loss
    assert exported.after.loss == pytest.approx(exported.before.loss, rel=0.01)
    old, new = models.load_config(folder), models.load_config(folder.parent / "out")
    for field in ("architecture", "class_names", "image_size", "resize", "metrics"):
        assert getattr(new, field) == getattr(old, field)
    assert new.extra == {"training": {"seed": 3}, "exported_from": old.sha256}


def test_the_command_prints_the_change(folder, capsys):
    out = folder.parent / "out"
    arguments = ["export", "--model", str(folder), "--out", str(out), "--data", "phantom"]
    arguments += ["--num-images", "8", "--dtype", "float32", "--shard-size", "1GiB"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1 files of weights" in printed
    assert "(+0.00%) on 8 images" in printed
    image = jax.numpy.ones((32, 32, 1)) / 3
    np.testing.assert_array_equal(models.load(out)(image), models.load(folder)(image))
    shard = next(out.glob("model-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert cli.main(["attack", "--model", str(out), "--data", "phantom"]) == 1
    err = capsys.readouterr().err
    assert shard.name in err
    assert err.count("\n") == 1


def test_what_cannot_be_exported_is_refused_before_anything_is_written(folder):
    with pytest.raises(ValueError, match=r"replace .*model itself"):
        export_checkpoint(config(folder, out=folder.parent / "." / "model"))
    with pytest.raises(ValueError, match="'15 miles' is no size"):
        export_checkpoint(config(folder, shard_size="15 miles"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        export_checkpoint(config(folder, data="nowhere"))
    other = models.build("convnet")
    models.save(other, folder, metadata={"class_names": ["cat", "dog"], "image_size": 32})
    with pytest.raises(ValueError, match=r"NORMAL, PNEUMONIA.*cat, dog"):
        export_checkpoint(config(folder))
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize("text", ["0MiB", "MiB", "-1MB", "15", "1.2.3GB", "IB", "1IB"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


def test_a_dry_run_says_how_large_it_becomes_and_writes_nothing(folder, capsys):
    cli.main(["export", "--model", str(folder), "--out", str(folder.parent / "out"),
              "--data", "phantom", "--num-images", "8", "--dry-run"])  # fmt: skip
    assert "judge 8 images twice" in capsys.readouterr().out
    assert not (folder.parent / "out").exists()
