"""The command line: `bfjax demo`, `bfjax train`, `bfjax attack` and the others.

Each command is a dataclass of options and a function; both are imported only when asked for.
"""

from __future__ import annotations

import argparse
import errno
import functools
import importlib
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from bfjax import __version__, memory
from bfjax.cli import host


class Command(NamedTuple):
    """A command: a package, in it a dataclass of options and a function that takes them; help."""

    package: str
    config: str
    function: str
    help: str


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "bfjax.cli", "DemoConfig", "run_demo", "train on phantoms, attack, audit, draw"
    ),
    "train": Command("bfjax.training", "TrainConfig", "train", "train a classifier on X-rays"),
    "attack": Command(
        "bfjax.evaluation", "AttackConfig", "attack", "attack every image of a data set"
    ),
    "evaluate": Command(
        "bfjax.evaluation", "EvaluateConfig", "evaluate", "many attacks on many models"
    ),
    "audit": Command(
        "bfjax.evaluation.standard", "AuditConfig", "audit", "how much uneven light a model takes"
    ),
    "certify": Command(
        "bfjax.evaluation.certified",
        "CertifyConfig",
        "certify",
        "certified radii of a smoothed model",
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
      arguments: the command line without the program's name. By default `sys.argv`, in a process
        of our own; with arguments the command is a guest in somebody's program, such as a notebook,
        and leaves warnings, streams, environment and signals there as they were.

    Returns:
      The exit status: 0, 1 (failed: one line on stderr says why), 2 (usage), 130 (interrupted).
      It speaks of the work: a reader of the output who has left early is no failure.
    """
    parser = argparse.ArgumentParser(
        prog="bfjax",
        usage="bfjax [--version] [--debug] [--process I/N@HOST:PORT|auto] COMMAND ...",
        description="Adversarial bias fields against X-ray classifiers.",
        epilog="bfjax COMMAND --help lists the options of a command.",
        formatter_class=functools.partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=27
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bfjax {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--process",
        metavar="I/N@HOST:PORT",
        help="this is I of N, 0 listens; auto: ask the cluster",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name, prog=f"bfjax {name}", help=command.help, add_help=False, allow_abbrev=False
        )
        one.add_argument("--config", type=Path)
        one.add_argument("--print-config", action="store_true")
    output = None
    if arguments is None:  # a process of our own, not somebody's program
        output = host.own_streams()
        memory.keep_freed()
    with host.as_it_was():
        known, rest = parser.parse_known_args(arguments)
        status = _status(known, rest)
        if output is not None:
            sys.stdout.flush()
        lost = output and output.lost
        if lost and lost.errno == errno.EPIPE:  # whoever read our output has seen enough
            return max(status, int(known.print_config))  # which does nothing else than print
        if lost:
            print(f"bfjax: error: standard output: {lost.strerror}", file=sys.stderr)
            return max(status, 1)
        return status


def _status(known: argparse.Namespace, rest: list[str]) -> int:
    try:
        _join(known.process)
        _run(known, rest)
    except KeyboardInterrupt:
        print("bfjax: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if known.debug:
            raise
        print(f"bfjax: error: {_told(error)}", file=sys.stderr)
        return 1
    return 0


def _told(error: Exception) -> str:
    """One line that names the culprit first."""
    if isinstance(error.__cause__ or error, AssertionError | RuntimeError) and _lacks_platform():
        return f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}: {_lacks_platform()}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename!r}: {error.strerror}"
    if isinstance(error, ValueError | OSError | ImportError):
        return " ".join(str(error).split())
    from bfjax import evaluation

    told = evaluation.happened(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in told:
        return f"out of memory, and a smaller --batch-size takes less: {told}"
    return f"{told}; bfjax --debug shows more"


def _lacks_platform() -> str | None:
    """What JAX says where the environment names a kind of device that is not there."""
    if not os.environ.get("JAX_PLATFORMS"):
        return None
    import jax

    try:
        jax.devices()
    except Exception as error:  # an assertion, where it knows the kind
        first = next(iter(str(error).splitlines()), "")
        return first or "JAX finds no such device; cpu is always there"
    return None


def _join(process: str | None) -> None:
    """Makes this process one of several, which share the work and the folder of the results."""
    if process is None:
        return
    found = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", process)
    if process != "auto" and (not found or int(found[1]) >= int(found[2])):
        raise ValueError(
            f"--process is such as 0/2@localhost:8476, got {process}; on a cluster it may be auto"
        )
    import jax

    if found:
        jax.distributed.initialize(found[3], int(found[2]), int(found[1]))
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:  # nothing says who is who
        raise ValueError(
            "--process auto: neither Slurm, Open MPI, Kubernetes nor a TPU pod was found here; "
            f"say it yourself, such as --process 0/2@localhost:8476 ({error})"
        ) from error


def _run(known: argparse.Namespace, arguments: list[str]) -> None:
    from bfjax.cli import options

    command = COMMANDS[known.command]
    package = importlib.import_module(command.package)
    kind = getattr(package, command.config)
    chosen = options.parse(kind, arguments, command=known.command, file=known.config)
    if known.print_config:
        print(options.as_toml(chosen), end="", flush=True)
        return
    import numpy as np

    # a host may have chosen that rounding to zero raises
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        getattr(package, command.function)(chosen)  # only now is JAX imported
