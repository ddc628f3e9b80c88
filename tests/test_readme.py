"""What the README shows works as it stands there."""

import re
from pathlib import Path

import jax
import pytest

from tests.evaluation.test_attack import checkpoint

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras'
def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    """One after the other, as a reader would paste them; with fewer phantoms after the first."""
    first, *others = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in first.splitlines() if line.strip()]) <= 12
    checkpoint(tmp_path / "bfjax-demo" / "model", image_size=96)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(first, "README.md", "exec"), names)
    share = float(capsys.readouterr().out.split()[-1])
    assert 0 <= share <= 1
    names |= {"images": names["images"][:2], "labels": names["labels"][:2]}
    with jax.numpy_rank_promotion("allow"):  # which Keras needs
        for code in others:
            exec(compile(code, "README.md", "exec"), names)
    for name in ("bim", "eq3", "smallest", "moved", "own"):
        assert names[name].adversarial.shape == (2, 96, 96, 1)


def test_every_file_that_is_linked_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_every_command_that_is_named_is_there():
    from bfjax.cli import COMMANDS

    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    code = "\n".join(re.findall(r"^ {4}.*$|`[^`]*`", prose, re.MULTILINE))
    named = set(re.findall(r"bfjax ([a-z]+)", code))
    assert named
    assert named <= set(COMMANDS)


def test_every_experiment_that_is_named_is_there():
    table = re.search(r"## Reproducing the paper\n(.*?)\n## ", TEXT, re.DOTALL)
    named = re.findall(r"`([a-z_]+\d?)(?: --|`)", table[1])
    assert len(named) >= 10
    for name in {*named, *re.findall(r"python -m experiments\.([a-z_0-9]+)", TEXT)}:
        found = list((README.parent / "experiments").glob(f"{name}*"))
        assert {path.stem for path in found} >= {name}, name


def test_own_field_and_attack_are_short():
    for name in ("def legendre", "legendre_attack"):
        code = next(c for c in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if name in c)
        assert len([line for line in code.splitlines() if line.strip()]) <= 15
