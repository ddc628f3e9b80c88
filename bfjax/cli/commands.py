"""The command line: `bfjax demo`, `bfjax train`, `bfjax attack` and the others.

Each command is a dataclass of options and a function; both are imported only when asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from bfjax import __version__, memory


class Command(NamedTuple):
    """A command: a package, in it a dataclass of options and a function that takes them; help."""

    package: str
    config: str
    function: str
    help: str


COMMANDS: dict[str, Command] = {
    "demo": Command("bfjax.cli", "DemoConfig", "run_demo", "train on phantoms, attack, draw"),
    "train": Command("bfjax.training", "TrainConfig", "train", "train a classifier on X-rays"),
    "attack": Command(
        "bfjax.evaluation", "AttackConfig", "attack", "attack every image of a data set"
    ),
    "evaluate": Command(
        "bfjax.evaluation", "EvaluateConfig", "evaluate", "many attacks on many models"
    ),
    "explain": Command(
        "bfjax.evaluation.maps", "ExplainConfig", "explain", "map where an attack works"
    ),
    "report": Command("bfjax.report", "ReportConfig", "report", "one web page of the results"),
    "export": Command(
        "bfjax.training", "ExportConfig", "export", "write a checkpoint anew, smaller"
    ),
}
"""The commands by name, in the order in which `bfjax --help` lists them."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: the command line without the program's name; `sys.argv` by default.

    Returns:
      The exit status: 0, 1 (failed: one line on stderr says why), 2 (usage), 130 (interrupted).
    """
    parser = argparse.ArgumentParser(
        prog="bfjax",
        usage="bfjax [--version] [--debug] [--process I/N@HOST:PORT] COMMAND ...",
        description="Adversarial bias fields against X-ray classifiers.",
        epilog="bfjax COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bfjax {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--process",
        metavar="I/N@HOST:PORT",
        help="this is I of N processes, 0 listens there",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name, prog=f"bfjax {name}", help=command.help, add_help=False, allow_abbrev=False
        )
        one.add_argument("--config", type=Path)
        one.add_argument("--print-config", action="store_true")
    known, rest = parser.parse_known_args(arguments)
    if arguments is None:  # a process of our own, not somebody's program
        memory.keep_freed()
    try:
        _join(known.process)
        return _run(known, rest)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("bfjax: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        if known.debug:
            raise
        print(f"bfjax: error: {_told(error)}", file=sys.stderr)
        return 1


def _told(error: Exception) -> str:
    """One line that names the culprit first."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename!r}: {error.strerror}"
    return " ".join(str(error).split())


def _join(process: str | None) -> None:
    """Makes this process one of several, which share the work and the folder of the results."""
    if process is None:
        return
    found = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", process)
    if not found or int(found[1]) >= int(found[2]):
        raise ValueError(f"--process is such as 0/2@localhost:8476, got {process}")
    import jax

    jax.distributed.initialize(found[3], int(found[2]), int(found[1]))


def _run(known: argparse.Namespace, arguments: list[str]) -> int:
    from bfjax.cli import options

    # The commands' work is long and their messages are for people: no compiler chatter.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.showwarning = _one_line
    command = COMMANDS[known.command]
    package = importlib.import_module(command.package)
    kind = getattr(package, command.config)
    chosen = options.parse(kind, arguments, command=known.command, file=known.config)
    if known.print_config:
        print(options.as_toml(chosen), end="", flush=True)
        return 0
    getattr(package, command.function)(chosen)  # only now is JAX imported
    sys.stdout.flush()  # a broken pipe shows here, not when the interpreter ends
    return 0


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, UserWarning):
        print(f"bfjax: warning: {' '.join(str(message).split())}", file=sys.stderr)
