"""What an attack imports and compiles before its first step: everyone waits for it."""

import json
import os
import subprocess
import sys

import pytest

from tests.evaluation.test_attack import checkpoint

_RUN = """
import json, sys
import jax
programs = []
def listen(event, seconds, **kwargs):
    if event == "/jax/core/compile/backend_compile_duration":
        programs.append(kwargs["fun_name"])
jax.monitoring.register_event_duration_secs_listener(listen)
from bfjax import cli
cli.main(["attack", "--model", sys.argv[1], "--out", sys.argv[2], "--data", "phantom",
    "--num-images", "3", "--batch-size", "2", "--degree", "3", "--grid-size", "3",
    "--num-steps", "2", "--no-measure", "--gallery", "0"])
print(json.dumps([sorted(sys.modules), programs]))
"""
_NEEDLESS = {"matplotlib", "scipy.stats", "tensorflow_datasets", "pandas", "pydicom", "tifffile"}


@pytest.mark.slow
def test_an_attack_imports_what_it_uses_and_compiles_a_dozen_programs(tmp_path):
    model = checkpoint(tmp_path / "model")
    run = [sys.executable, "-c", _RUN, str(model), str(tmp_path / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ)
    modules, programs = json.loads(done.stdout.splitlines()[-1])
    assert _NEEDLESS.isdisjoint(modules)
    assert sum("step" in name for name in programs) == 1
    assert sum("logits" in name for name in programs) == 1  # of the result, clean, attacked
    assert len(programs) <= 16, programs
