"""Saved states of a run, so that one killed at any moment goes on: Orbax behind two functions.

Arrays are stored as arrays and the rest as JSON; nothing is pickled. A state appears under its
final name only when it is whole.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

_KEPT = 2  # the newest, and one to fall back on where a disk has lost part of that


class Saves:
    """The states saved in a folder; `saves` opens one.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp()) / "training"
      >>> with saves(folder) as states:
      ...     states.save(3, (jax.numpy.ones(2), 2), {"loss": [0.5]})
      >>> with saves(folder) as states:
      ...     states.latest, states.about(3), states.arrays(3, (jax.numpy.zeros(2), 0))
      (3, {'loss': [0.5]}, (Array([1., 1.], dtype=float32), 2))
    """

    def __init__(self, folder: Path, manager: ocp.CheckpointManager):
        self._folder, self._manager = folder, manager

    @property
    def latest(self) -> int | None:
        """The newest step that was saved, if any."""
        return self._manager.latest_step()

    def save(self, step: int, arrays: Any, about: Mapping[str, Any]) -> None:
        """Saves a state, and deletes all but the newest two.

        Args:
          step: its number, not saved before.
          arrays: a pytree of arrays.
          about: whatever else belongs to it, as JSON takes it.

        Raises:
          OSError: it cannot be written; the ones before it are as they were.
        """
        args = ocp.args.Composite(
            arrays=ocp.args.StandardSave(_by_name(arrays)), about=ocp.args.JsonSave(dict(about))
        )
        try:
            self._manager.save(step, args=args)
        except Exception as error:  # TensorStore raises the system's errors as ValueError
            reason = str(error).rsplit(": ", 1)[-1].split(" [")[0]
            raise OSError(
                f"cannot save {self._folder / str(step)} ({reason}): make room, and the same "
                "command goes on from the state before it"
            ) from error

    def about(self, step: int) -> dict[str, Any]:
        """What was saved beside the arrays.

        Args:
          step: one that was saved.

        Returns:
          As JSON gives it back.

        Raises:
          ValueError: it cannot be read.
        """
        with self._readable(step):
            args = ocp.args.Composite(about=ocp.args.JsonRestore())
            return self._manager.restore(step, args=args)["about"]

    def arrays(self, step: int, like: Any) -> Any:
        """The arrays of a state.

        Args:
          step: one that was saved.
          like: a pytree of arrays of the same structure, shapes, types and placement.

        Returns:
          The arrays in the structure of `like`.

        Raises:
          ValueError: they cannot be read, or are not like `like`.
        """
        with self._readable(step):
            named = _by_name(like)
            wanted = {name: ocp.utils.to_shape_dtype_struct(x) for name, x in named.items()}
            args = ocp.args.Composite(arrays=ocp.args.StandardRestore(wanted))
            found = self._manager.restore(step, args=args)["arrays"]
        return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in named])

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax, TensorStore and the JSON reader raise many kinds
            reason = str(error).split("\n")[0][:200]
            raise ValueError(
                f"{self._folder / str(step)} cannot be read ({reason}): delete it to go on from "
                f"an earlier state, if there is one, or delete {self._folder} to start anew"
            ) from error


@contextlib.contextmanager
def saves(folder: Path) -> Iterator[Saves]:
    """Opens the saved states of a run.

    Args:
      folder: where they lie; it is created.

    Yields:
      The states.
    """
    options = ocp.CheckpointManagerOptions(
        max_to_keep=_KEPT,
        create=True,
        cleanup_tmp_directories=True,  # what a killed run left half written, before the next save
        enable_async_checkpointing=False,  # whoever reads the folder finds what was saved
    )
    names = ("arrays", "about")
    # Orbax and its threads tell there, at length, what comes as an exception too; after one they
    # go on telling until the interpreter ends, so then its words, and no others, stay unheard
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    hooks = threading.excepthook, sys.unraisablehook
    for log in logs:
        log.addFilter(_of_others)
    threading.excepthook, sys.unraisablehook = (functools.partial(_unheard, hook) for hook in hooks)
    with ocp.CheckpointManager(folder.absolute(), item_names=names, options=options) as manager:
        yield Saves(folder, manager)
    for log in logs:
        log.removeFilter(_of_others)
    threading.excepthook, sys.unraisablehook = hooks


def _of_others(record: logging.LogRecord) -> bool:
    """Whether a line of a log is not Orbax's."""
    trace = traceback.format_tb(record.exc_info[2]) if record.exc_info else []
    return not any("orbax" in text for text in (record.pathname, record.getMessage(), *trace))


def _unheard(hook: Callable[[Any], object], raised: Any) -> None:
    """Hands on what was raised in a thread, or while something was deleted, but by Orbax."""
    trace = "".join(traceback.format_tb(raised.exc_traceback))
    if "orbax" not in trace and str(raised.exc_value) != "Event loop is closed":  # TensorStore's
        hook(raised)


def _by_name(tree: Any) -> dict[str, Any]:
    """A flat dictionary: Orbax need not know our NamedTuples, nor Flax's and optax's states."""
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
