"""The command line: `bfjax demo`, `bfjax train`, `bfjax attack`, `bfjax export`.

Each command is a dataclass of options and a function; both are imported only when asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from typing import NamedTuple


class Command(NamedTuple):
    """A command: its dataclass of options, the module whose `main` takes them, a line of help."""

    config: str
    module: str
    help: str


COMMANDS = {
    "demo": Command("DemoConfig", "bfjax.demo", "train on phantoms, attack, draw: no download"),
    "train": Command("TrainConfig", "bfjax.train", "fine-tune a classifier on X-rays"),
    "attack": Command("AttackConfig", "bfjax.evaluate", "attack every image of a data set"),
    "export": Command("ExportConfig", "bfjax.export", "write a checkpoint anew, smaller"),
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
        description="Adversarial bias fields against X-ray classifiers.",
        epilog="bfjax COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    known, rest = parser.parse_known_args(arguments)
    try:
        return _run(known.command, rest)
    except KeyboardInterrupt:
        print("bfjax: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if known.debug:
            raise
        print(f"bfjax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _run(name: str, arguments: list[str]) -> int:
    import tyro

    from bfjax import config

    # The commands' work is long and their messages are for people: no compiler chatter.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.showwarning = _one_line
    command = COMMANDS[name]
    options = getattr(config, command.config)
    options = tyro.cli(options, args=arguments, prog=f"bfjax {name}")
    importlib.import_module(command.module).main(options)  # only now is JAX imported
    return 0


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, UserWarning):
        print(f"bfjax: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
