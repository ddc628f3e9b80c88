"""The options of a command, from a TOML file and the command line, and back to such a file."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
import tyro

_Config = TypeVar("_Config")
_NONE = "None"  # TOML has no word for it; the command line takes this one
_NOTE = "\n\n--config FILE takes options from a TOML file, --print-config prints one."


def parse(
    config: type[_Config], arguments: Sequence[str], *, command: str, file: Path | None = None
) -> _Config:
    """The options that a user gave, in a file or on the command line, which has the last word.

    A wrong command line ends the program with status 2, ``--help`` with status 0.

    Args:
      config: the dataclass of the command's options.
      arguments: of the command line, after the command's name.
      command: its name, for the messages.
      file: a TOML file with options under their names, such as ``max_change = 0.05``.

    Returns:
      The options.

    Raises:
      ValueError: the file is no TOML, or holds what is no option.
      FileNotFoundError: there is no such file.

    Example:
      >>> from bfjax.cli import DemoConfig
      >>> parse(DemoConfig, ["--seed", "3"], command="demo").seed
      3
    """
    given, positional = ([], {}) if file is None else _arguments(config, file)
    return tyro.cli(
        config,
        args=[*given, *arguments],
        default=_with(config, positional) if positional else None,
        prog=f"bfjax {command}",
        description=f"{inspect.getdoc(config)}{_NOTE}",
    )


def as_toml(config: Any) -> str:
    """Options as a file that `parse` takes.

    Args:
      config: a dataclass of options.

    Returns:
      TOML, with every option.

    Example:
      >>> from bfjax.cli import DemoConfig
      >>> print(as_toml(DemoConfig()), end="")
      out = "bfjax-demo"
      seed = 0
      dry_run = false
    """
    return tomli_w.dumps({name: _plain(v) for name, v in dataclasses.asdict(config).items()})


def _plain(value: Any) -> Any:
    if value is None:
        return _NONE
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _with(config: type, positional: dict[str, Path]) -> Any:
    """The options by default, with what a file says and the command line says without a name."""
    made = object.__new__(config)  # it may lack what the command line says
    for field in dataclasses.fields(config):
        known = positional.get(field.name, field.default)
        if known is dataclasses.MISSING:
            made_by = field.default_factory
            known = tyro.MISSING if made_by is dataclasses.MISSING else made_by()
        object.__setattr__(made, field.name, known)
    return made


def _arguments(config: type, file: Path) -> tuple[list[str], dict[str, Path]]:
    """What a file says, as the command line would say it: one reading of types for both.

    Beside it, by name, what the command line says without one: there its own takes its place.
    """
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no TOML file: {error}") from error
    hints = typing.get_type_hints(config, include_extras=True)
    positional: dict[str, Path] = {}
    words: list[str] = []
    for name, value in told.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            instead = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{file}: {name} is no option of the command{instead}")
        option = f"--{name.replace('_', '-')}"
        if hints[name] == tyro.conf.Positional[Path]:
            positional[name] = Path(str(value))
        elif isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, list):
            words += [option, *map(str, value)]
        elif isinstance(value, dict):
            words += [option, *(str(word) for pair in value.items() for word in pair)]
        else:
            words.append(f"{option}={value}")
    return words, positional
