"""Memory on a CPU: what a step frees, the next one takes again.

XLA asks for the memory of all intermediate results at each call and frees it afterwards. By default
glibc gives blocks of that size back to the system, which must fill them with zeros page by page
before they are used once more: about a tenth of the time of an input gradient.
"""

from __future__ import annotations

import ctypes
import mmap
import time

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
"""What the environment of a new process says instead of `keep_freed`."""

# from malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
    """Has this process keep the memory that it frees, for its next step.

    `bfjax` commands do so. In a program of your own, call it before NumPy and JAX are imported:
    the memory of threads that are there already would be used too, and given back. The process
    then stays as large as it once was. `ENVIRONMENT` says the same to a new process.

    Returns:
      Whether the C library is one that can be told: glibc, Linux's usual one.

    Example:
      >>> keep_freed() in (True, False)
      True

    Reference: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def make_room(size: int) -> bool:
    """Gives back the memory that is kept, where a block of `size` would not lie in it.

    Small blocks that were taken out of the last step's memory leave too little of it in one piece.
    The next step would then lie beside it, and the process would hold both. Call it before a step.

    Args:
      size: of all intermediate results of a step, in bytes.

    Returns:
      Whether memory was given back.

    Example:
      >>> make_room(0)
      False

    Reference: malloc_trim(3), mincore(2).
    """
    try:
        libc = ctypes.CDLL(None)
        libc.malloc_trim  # noqa: B018  glibc alone has it
    except (AttributeError, OSError, TypeError):
        return False
    for pause in (0, 0.01, 0.1):  # a step that has just ended frees its memory a moment later
        time.sleep(pause)
        if _held(libc, size + mmap.PAGESIZE) >= 0.9:
            return False
    return bool(libc.malloc_trim(0))


def _held(libc: ctypes.CDLL, size: int) -> float:
    """The share of the next block's pages that the process has already."""
    pages = size // mmap.PAGESIZE - 1
    if pages < 1:
        return 1.0
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(size))
    if block is None:
        return 0.0
    first = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
    seen = (ctypes.c_ubyte * pages)()
    there = libc.mincore(ctypes.c_void_p(first), ctypes.c_size_t(pages * mmap.PAGESIZE), seen) == 0
    libc.free(ctypes.c_void_p(block))
    return bytes(seen).count(1) / pages if there else 0.0
