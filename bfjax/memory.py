"""Memory on a CPU: what a step frees, the next one takes again.

XLA asks for the memory of all intermediate results at each call and frees it afterwards. By default
glibc gives blocks of that size back to the system, which must fill them with zeros page by page
before they are used once more: up to a third of the time of an input gradient.
"""

from __future__ import annotations

import ctypes

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
