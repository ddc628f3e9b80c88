"""Freed memory is taken again: seen in the pages that the system must fill."""

import json
import platform
import subprocess
import sys

import pytest

from bfjax import memory

# 60 MB at a time, allocated, written to and freed in a thread of its own, as XLA does
PROGRAM = """
import json, resource, sys, threading
import numpy as np
from bfjax import memory
told = memory.keep_freed() if sys.argv[1] == "kept" else None
def work():
    for _ in range(5):
        np.ones(60_000_000, np.uint8)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(json.dumps({"told": told, "faults": faults()}))
"""


def pages(how):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_pages_are_filled_once():
    kept, usual = pages("kept"), pages("usual")
    assert kept["told"] is (platform.libc_ver()[0] == "glibc")
    if kept["told"]:
        assert kept["faults"] < usual["faults"] / 20


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed() is False


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_a_system_without_one_is_left_alone(monkeypatch, error):
    def absent(name):
        raise error

    monkeypatch.setattr(memory.ctypes, "CDLL", absent)
    assert memory.keep_freed() is False


# 60 MB that are freed, and a third of them taken again: how much larger is the process with the
# next 60 MB, where room was made for them and where not?
ROOM = """
import json, sys
import numpy as np
from bfjax import memory
memory.keep_freed()
def kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
low = np.ones(30_000_000, np.uint8)
high = np.ones(30_000_000, np.uint8)
above = np.ones(9_000_000, np.uint8)  # or the end of the heap would grow
del low, high
again = np.ones(59_000_000, np.uint8)
del again
early = memory.make_room(58_000_000)
taken = np.ones(20_000_000, np.uint8)
before = kib()
given = memory.make_room(58_000_000) if sys.argv[1] == "made" else None
whole = np.ones(58_000_000, np.uint8)
print(json.dumps({"early": early, "given": given, "grown": kib() - before}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps nothing")
def test_room_is_made_where_freed_memory_is_scattered():
    made, left = (
        json.loads(subprocess.check_output([sys.executable, "-c", ROOM, how], text=True))
        for how in ("made", "left")
    )
    assert made["early"] is left["early"] is False  # all of it is there, and is kept
    assert made["given"] is True
    assert left["grown"] > 50_000
    assert made["grown"] < 30_000
