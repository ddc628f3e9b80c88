"""Errors of somebody else's code, in one line that names their line."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path


def happened(error: BaseException) -> str:
    """An error of somebody else's code in one line: its kind, its message, and where it was raised.

    Args:
      error: as it was caught.

    Returns:
      The first line of the message, for JAX's go on at length, and the innermost line of code that
      belongs to no installed package.

    Example:
      >>> happened(ZeroDivisionError("division by zero"))
      'ZeroDivisionError: division by zero'
    """
    text = str(error).strip()
    if _CALLBACK in text:  # JAX has the callback's own traceback as its text
        last = text.rpartition('  File "')[2].splitlines()[1:]
        told = next((line for line in last if line.strip() and line[0] != " "), text)
    else:
        told = next(iter(text.splitlines()), "")
        if isinstance(error, SyntaxError) and error.filename:
            told = error.msg
        if not isinstance(error, ImportError):
            told = f"{type(error).__name__}: {told}"
    own = own_lines(error)
    return " ".join(f"{told} ({own[-1][0]}:{own[-1][1]})".split()) if own else told


_CALLBACK = "Traceback (most recent call last):"


def own_lines(error: BaseException) -> list[tuple[str, int | None]]:
    """The files and lines that an error passed through and that belong to no installed package.

    Args:
      error: as it was caught.

    Returns:
      File and line of each, the innermost last.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return [(error.filename, error.lineno)]
    lines = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__
    if cause is not None and type(cause).__name__ == "JaxStackTraceBeforeTransformation":
        # the operation whose gradient failed, where nothing of the user's own did
        stack = traceback.extract_tb(cause.__traceback__)
        lines = [*((f.filename, f.lineno) for f in stack), *lines]
    if _CALLBACK in (text := str(error)):
        lines += [
            (name, int(n)) for name, n in re.findall(r'^  File "(.+)", line (\d+)', text, re.M)
        ]
    paths = sysconfig.get_paths()
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = (str(Path(__file__).parents[1]), *(paths[kind] for kind in kinds))
    return [line for line in lines if not line[0].startswith(("<", *installed))]
