import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bfjax
from bfjax import cli
from bfjax.cli import options
from bfjax.evaluation import AttackConfig, EvaluateConfig
from bfjax.evaluation.maps import ExplainConfig
from bfjax.training import TrainConfig
from tests.evaluation.test_attack import checkpoint


def run(capsys, *arguments):
    status = cli.main(list(arguments))
    return status, *capsys.readouterr()


def one_line(err):
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def test_help_names_the_commands_and_fits_a_screen(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)
    assert len(out.splitlines()) <= 24


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_defaults(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--out" in out
    assert "default:" in out
    assert "(unset)" not in out


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["attack", "--model"], ["demo", "--colour", "1"]]
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_missing_checkpoint_is_one_line(capsys, tmp_path):
    status, _, err = run(capsys, "attack", "--model", str(tmp_path / "none"), "--data", "phantom")
    assert status == 1
    assert str(tmp_path / "none") in one_line(err)


def test_damaged_checkpoint_is_one_line(capsys, tmp_path):
    folder = checkpoint(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    status, _, err = run(capsys, "attack", "--model", str(folder), "--data", "phantom")
    assert status == 1
    assert "model.safetensors" in one_line(err)


def test_missing_data_is_one_line_that_says_what_to_download(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path))
    folder = checkpoint(tmp_path / "model")
    status, _, err = run(capsys, "attack", "--model", str(folder), "--data", "chest_xray")
    assert status == 1
    assert "paultimothymooney/chest-xray-pneumonia" in one_line(err)


def test_corrupt_image_is_one_line_that_names_it(capsys, tmp_path):
    folder = checkpoint(tmp_path / "model")
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "broken.jpeg").write_bytes(b"\xff\xd8\xff no picture")
    status, _, err = run(
        capsys, "attack", "--model", str(folder), "--data", str(tmp_path / "images"),
        "--split", "all", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert status == 1
    assert "broken.jpeg" in one_line(err)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        cli.main(["--debug", "attack", "--model", str(tmp_path / "none"), "--data", "phantom"])


def test_interruption_is_status_130_and_says_how_to_go_on(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    module = importlib.import_module("bfjax.evaluation")
    monkeypatch.setattr(module, "attack", interrupt)
    status, _, err = run(capsys, "attack", "--model", "m")
    assert status == 130
    assert "goes on where it stopped" in one_line(err)


@pytest.mark.slow
def test_demo_trains_attacks_and_draws(capsys, tmp_path, monkeypatch):
    demo = importlib.import_module("bfjax.cli.demo")
    monkeypatch.setattr(demo, "PHANTOMS", 96)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "AUDITED", 4)
    status, out, _ = run(capsys, "demo", "--out", str(tmp_path / "demo"))
    assert status == 0
    assert "classifier: accuracy" in out
    assert "success" in out
    assert (tmp_path / "demo" / "attack" / "summary.json").exists()
    assert (tmp_path / "demo" / "audit" / "model" / "audit.json").exists()
    assert len(list((tmp_path / "demo" / "attack" / "gallery").glob("*.png"))) == 12


def test_help_waits_for_no_heavy_import():
    """Measured 0.05 s without JAX, 1.4 s with it."""
    program = (
        "import sys\n"
        "from bfjax import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "except SystemExit:\n"
        "    heavy = {'jax', 'numpy', 'flax', 'tyro', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.splitlines()) < 24  # fits a screen


def test_no_help_of_a_command_imports_jax():
    program = (
        "import sys\n"
        "from bfjax import cli\n"
        "for name in cli.COMMANDS:\n"
        "    try:\n"
        "        cli.main([name, '--help'])\n"
        "    except SystemExit:\n"
        "        heavy = {'jax', 'flax', 'matplotlib', 'grain', 'orbax'} & set(sys.modules)\n"
        "        assert not heavy, (name, heavy)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("usage: bfjax ") == len(cli.COMMANDS)


@pytest.mark.parametrize("program", [["bfjax"], ["bfjax.cli"]])
def test_the_version_is_that_of_the_package(program):
    done = subprocess.run(
        [sys.executable, "-m", *program, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["bfjax", importlib.metadata.version("bfjax")]
    assert bfjax.__version__ == importlib.metadata.version("bfjax")


@pytest.mark.parametrize("process", ["2", "2/2@localhost:1", "0/2@localhost", "a/b@c:1"])
def test_a_process_that_cannot_be_is_named(process, capsys):
    assert cli.main(["--process", process, "evaluate"]) == 1
    assert f"--process is such as 0/2@localhost:8476, got {process}" in capsys.readouterr().err


def test_options_come_from_a_file_and_the_command_line_has_the_last_word(capsys, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text(
        'model = "m"\ndegree = 4\nmax_change = "None"\nextent = [0, 1]\nmeasure = false\n'
    )
    status, out, _ = run(capsys, "attack", "--config", str(file), "--degree", "5", "--print-config")
    assert status == 0
    found = tomllib.loads(out)
    assert (found["model"], found["degree"], found["extent"]) == ("m", 5, [0.0, 1.0])
    assert (found["max_change"], found["measure"], found["seed"]) == ("None", False, 0)


def test_a_folder_of_the_command_line_takes_the_place_of_that_in_a_file(capsys, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text('dir = "one"\nmodel = "m"\n', encoding="utf-8")
    for given, found in (((), "one"), (("other",), "other")):
        status, out, _ = run(capsys, "explain", "--config", str(file), *given, "--print-config")
        assert status == 0
        assert tomllib.loads(out)["dir"] == found
    file.write_text('model = "m"\n', encoding="utf-8")
    with pytest.raises(SystemExit):  # there is still none
        options.parse(ExplainConfig, [], command="explain", file=file)


@pytest.mark.parametrize(
    "config",
    [
        AttackConfig(model="a b", targets=("c", "d"), max_change=None, extent=(-2.0, 1.0)),
        EvaluateConfig(sources=("m", "n"), attacks={"ours": "bias_field(degree=3)"}),
        ExplainConfig(dir=Path("results"), model="m"),
        TrainConfig(progressive=(96, 160), flip=False, init='weights "a".npz'),
    ],
)
def test_printed_options_are_read_back(config, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text(options.as_toml(config), encoding="utf-8")
    assert options.parse(type(config), [], command="x", file=file) == config


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("degre = 4", "degre is no option of the command; did you mean degree?"),
        ("degree = ", "is no TOML file"),
        (b"\xff", "is no TOML file"),
        (None, "No such file"),
    ],
)
def test_a_file_of_options_that_cannot_be_read_is_named(text, told, capsys, tmp_path):
    file = tmp_path / "options.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, _, err = run(capsys, "attack", "--config", str(file))
    assert status == 1
    assert str(file) in one_line(err)
    assert told in err


def test_a_file_with_a_value_of_the_wrong_kind_is_wrong_usage(capsys, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text('model = "m"\ndegree = "many"\n')
    with pytest.raises(SystemExit) as stop:
        cli.main(["attack", "--config", str(file)])
    assert stop.value.code == 2
    assert "--degree" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dry_run_of_the_demo_estimates_training_and_attack(capsys, tmp_path, monkeypatch):
    demo = importlib.import_module("bfjax.cli.demo")
    monkeypatch.setattr(demo, "PHANTOMS", 96)
    monkeypatch.setattr(demo, "SIZE", 32)
    status, out, _ = run(capsys, "demo", "--out", str(tmp_path / "demo"), "--dry-run")
    assert status == 0
    assert "7 epochs of 5 steps" in " ".join(out.split())
    assert "in all" in out
    assert not (tmp_path / "demo").exists()
