"""What decoders say in passing: caught, to be told with the name of the file, or not at all.

Convention:
    Several threads decode at once. Each gets what was said in its own blocks; warnings and log
    lines of other threads go where they would have gone.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any

_LIBRARIES = ("PIL", "imagecodecs", "jpeg_ls", "openjpeg", "pydicom", "pylibjpeg", "tifffile")

# of whatever is collected while a file is decoded, or of a library's own code: not of the file
_FOR_PROGRAMMERS = (ResourceWarning, DeprecationWarning, PendingDeprecationWarning, FutureWarning)

_MANY = 1000  # files of one remark, after which no more are named

_THREAD = threading.local()
_LOCK = threading.Lock()  # for what follows: warning filters are the whole process's
_OPEN = 0
_FILTERS = contextlib.ExitStack()
_ELSEWHERE: Callable[..., Any] = warnings.showwarning
_TOLD: set[tuple[str, str, int]] = set()
_FILES: collections.Counter[str] = collections.Counter()


@contextlib.contextmanager
def caught() -> Generator[list[str]]:
    """Catches the warnings of one thread, and the decoders' log lines.

    Yields:
      What was said, in order; the list grows while the block runs.

    Example:
      >>> with caught() as said:
      ...     warnings.warn("Truncated File Read")
      >>> said
      ['Truncated File Read']
    """
    _enter()
    outer, _THREAD.said = getattr(_THREAD, "said", None), []
    try:
        yield _THREAD.said
    finally:
        _THREAD.said = outer
        _leave()


def _enter() -> None:
    global _OPEN, _ELSEWHERE
    with _LOCK:
        if _OPEN == 0:
            _ELSEWHERE = warnings.showwarning
            _FILTERS.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
            warnings.showwarning = _show
        _OPEN += 1
        for logger in _loggers():
            logger.addFilter(_keep)


def _leave() -> None:
    global _OPEN
    with _LOCK:
        _OPEN -= 1
        if _OPEN == 0:
            _FILTERS.close()
            for logger in _loggers():
                logger.removeFilter(_keep)


def _loggers() -> list[logging.Logger]:
    known = [n for n in logging.root.manager.loggerDict if n.partition(".")[0] in _LIBRARIES]
    # a filter does not reach the loggers below
    return [logging.getLogger(name) for name in {*_LIBRARIES, *known}]


def _show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    said = getattr(_THREAD, "said", None)
    if said is None:
        _ELSEWHERE(message, category, *where, **more)
    elif not issubclass(category, _FOR_PROGRAMMERS):
        said.append(" ".join(str(message).split()))


def _keep(record: logging.LogRecord) -> bool:
    """A filter on the decoders' loggers; what other threads say it lets pass."""
    said = getattr(_THREAD, "said", None)
    if said is not None and record.levelno >= logging.WARNING:
        said.append(" ".join(record.getMessage().split()))
    return said is None


def tell(name: str, data: bytes, remarks: list[str]) -> None:
    """Warns of a file, by name, once in a process: it may be decoded in every epoch.

    Where the same holds of very many files, the last warning says that no more are named.

    Args:
      name: of the file.
      data: its bytes; another file of that name is another file.
      remarks: what there is to say.

    Example:
      >>> with caught() as said:
      ...     for _ in range(2):
      ...         tell("a.tif", b"II*", ["the range that it declares is ignored"])
      >>> said
      ['a.tif: the range that it declares is ignored']
    """
    for remark in dict.fromkeys(remarks):
        key = (name, remark, hash(data))
        if key not in _TOLD:
            _TOLD.add(key)
            _FILES[remark] += 1
            if _FILES[remark] <= _MANY:
                more = "; no more such files are named" if _FILES[remark] == _MANY else ""
                warnings.warn(f"{name}: {remark}{more}", stacklevel=3)
