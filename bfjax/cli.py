"""The command line: `bfjax demo`, `bfjax train`, `bfjax attack`, `bfjax export`.

Each command is a dataclass of options and a function; both are imported only when asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import warnings
from typing import NamedTuple


class Command(NamedTuple):
    """A command: its dataclass of options, the function that takes them, a line of help."""

    config: str
    function: str
    help: str


COMMANDS = {
    "demo": Command("DemoConfig", "bfjax.demo:main", "train on phantoms, attack, draw"),
    "train": Command("TrainConfig", "bfjax.train:main", "fine-tune a classifier on X-rays"),
    "attack": Command("AttackConfig", "bfjax.evaluate:attack", "attack every image of a data set"),
    "evaluate": Command("EvaluateConfig", "bfjax.evaluate:evaluate", "many attacks on many models"),
    "explain": Command("ExplainConfig", "bfjax.explaining:main", "map where an attack works"),
    "report": Command("ReportConfig", "bfjax.report:main", "one web page of the results"),
    "export": Command("ExportConfig", "bfjax.export:main", "write a checkpoint anew, smaller"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: the command line without the program's name; `sys.argv` by default.

    Returns:
      The exit status: 0, 1 (failed: one line on stderr says why), 2 (usage), 130 (interrupted).
    """
    parser = argparse.ArgumentParser(
        prog="bfjax",
        usage="bfjax [--debug] [--process I/N@HOST:PORT] COMMAND ...",
        description="Adversarial bias fields against X-ray classifiers.",
        epilog="bfjax COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--process",
        metavar="I/N@HOST:PORT",
        help="this is I of N processes, 0 listens there",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    known, rest = parser.parse_known_args(arguments)
    try:
        _join(known.process)
        return _run(known.command, rest)
    except KeyboardInterrupt:
        print("bfjax: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        if known.debug:
            raise
        print(f"bfjax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _join(process: str | None) -> None:
    """Makes this process one of several, which share the work and the folder of the results."""
    if process is None:
        return
    found = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", process)
    if not found or int(found[1]) >= int(found[2]):
        raise ValueError(f"--process is such as 0/2@localhost:8476, got {process}")
    import jax

    jax.distributed.initialize(found[3], int(found[2]), int(found[1]))


def _run(name: str, arguments: list[str]) -> int:
    import tyro

    from bfjax import config

    # The commands' work is long and their messages are for people: no compiler chatter.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.showwarning = _one_line
    command = COMMANDS[name]
    options = getattr(config, command.config)
    options = tyro.cli(options, args=arguments, prog=f"bfjax {name}")
    module, _, function = command.function.partition(":")
    getattr(importlib.import_module(module), function)(options)  # only now is JAX imported
    return 0


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, UserWarning):
        print(f"bfjax: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
