"""What the README shows works as it stands there."""

import re
from pathlib import Path

from tests.test_evaluate import checkpoint

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    checkpoint(tmp_path / "bfjax-demo" / "model", image_size=96)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    share = float(capsys.readouterr().out.split()[-1])
    assert 0 <= share <= 1


def test_every_file_that_is_linked_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_every_command_that_is_named_is_there():
    from bfjax.cli import COMMANDS

    code = "\n".join(re.findall(r"^ {4}.*$|`[^`]*`", TEXT, re.MULTILINE))
    named = set(re.findall(r"bfjax ([a-z]+)", code))
    assert named
    assert named <= set(COMMANDS)
