"""What the program finds around it: streams that take any text, and a host that stays as it was."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any


@contextlib.contextmanager
def as_it_was() -> Generator[None]:
    """Leaves the surroundings as they were: a notebook that runs a command goes on with its own.

    Within, a warning is one line, told once, and what an encoding lacks is written as escapes.
    """
    environment, path = dict(os.environ), list(sys.path)
    streams, handlers = (sys.stdout, sys.stderr), _signal_handlers()
    logged = list(logging.root.handlers)  # a library that logs to the root adds one
    told = [(s, s.errors) for s in streams if isinstance(s, io.TextIOWrapper)]
    # the messages of a command are for people: no compiler chatter
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.stderr is None:  # else `print` takes stdout in its place
        sys.stderr = io.StringIO()
    for stream, _ in told:
        stream.reconfigure(errors="backslashreplace")
    for name in _TELL_TWICE:
        logging.getLogger(name).addFilter(_no_traceback)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _once()
            yield
    finally:
        for name in _TELL_TWICE:
            logging.getLogger(name).removeFilter(_no_traceback)
        logging.root.handlers[:] = logged
        for stream, errors in told:
            stream.reconfigure(errors=errors)
        sys.stdout, sys.stderr = streams
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.path[:] = path
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


# they log the traceback of a user's callback that fails, beside raising it
_TELL_TWICE = ("jax._src.callback", "jax._src.debugging")


def _no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


def _signal_handlers() -> dict[Any, Any]:
    """Those that Python can set again, which it does in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {number: handler for number, handler in handlers.items() if handler is not None}


def _once() -> Callable[..., None]:
    """Shows each warning for users once, as a line: Python's own memory of them is often reset."""
    told: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning) and text not in told:
            told.add(text)
            sys.stderr.write(f"bfjax: warning: {text}\n")  # at once: other threads warn, too

    return show


class Output(io.RawIOBase):
    """A stream that never stops the work: what nobody can take any more is let go, and noted.

    Attributes:
      lost: the first error.
    """

    lost: OSError | None = None

    def __init__(self, raw: io.RawIOBase) -> None:
        """A stream in place of another."""
        self._raw = raw

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The other's."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """Whether the other is a terminal."""
        return self._raw.isatty()

    def write(self, data: Any) -> int | None:
        """Writes, or lets go."""
        try:
            return self._raw.write(data)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def own_streams() -> Output | None:
    """Has the streams of a process of our own last to its end, whatever becomes of who reads them.

    Those that are closed lead nowhere from now on: else the next file that is opened, one of the
    results perhaps, would get their number, and with it what a library writes there.

    Returns:
      What stdout goes through; `None` where it is no stream of the system.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stderr, _ = _lasting(sys.stderr, 2)
    sys.stdout, output = _lasting(sys.stdout, 1)
    return output


def _lasting(stream: Any, number: int) -> tuple[Any, Output | None]:
    if stream is None:  # it was closed
        output = Output(io.FileIO(number, "w", closefd=False))
        return io.TextIOWrapper(io.BufferedWriter(output), encoding="utf-8"), output
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.RawIOBase):
        return stream, None
    output = Output(raw)
    under: Any = output if raw is buffer else io.BufferedWriter(output)  # raw: it runs unbuffered
    lasting = io.TextIOWrapper(
        under,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=raw is buffer,
    )
    return lasting, output
