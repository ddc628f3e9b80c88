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
