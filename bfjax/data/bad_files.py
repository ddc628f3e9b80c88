"""Which files of a source cannot be read, and why."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from bfjax.data.image import ImageError
from bfjax.data.source import Source


def check(source: Source) -> list[str]:
    """Reads every record and collects what is wrong with the files.

    Args:
      source: any source.

    Returns:
      One line for each file that cannot be read, beginning with its path; empty if all can.

    Example:
      >>> import bfjax.data
      >>> check(bfjax.data.load("phantom", "test", num_examples=2, image_size=32))
      []
    """
    return [f"{source.path(i)}: {reason}" for i, reason in bad_files(source).items()]


def bad_files(source: Source) -> dict[int, str]:
    """Reads every record and says what is wrong, without a word of where the files lie.

    Args:
      source: any source.

    Returns:
      Index of each record that cannot be read, to the reason in one line.

    Example:
      >>> import bfjax.data
      >>> bad_files(bfjax.data.load("phantom", "test", num_examples=2, image_size=32))
      {}
    """

    def problem(index: int) -> str | None:
        try:
            source[index]
        except ImageError as error:
            told = str(error).removeprefix(f"{source.path(index)}: ")
            return " ".join(told.replace(source.path(index), source.names[index]).split())
        except OSError as error:  # not readable, or gone since it was listed
            return error.strerror or type(error).__name__
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(problem, range(len(source)))
        return {i: reason for i, reason in enumerate(problems) if reason is not None}
