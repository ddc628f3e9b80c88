"""The tour of the package: the notebook runs, and is kept with its pictures."""

import os
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

TOUR = Path(__file__).parent.parent / "experiments" / "tour.ipynb"


def _read():
    return nbformat.read(TOUR, as_version=4)


def _outputs(notebook):
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def _pictures(notebook):
    """How many cells show a picture."""
    return sum(
        any("image/png" in output.get("data", {}) for output in outputs)
        for outputs in _outputs(notebook)
    )


def _complaints(notebook):
    """What cells raised, or wrote to standard error: warnings."""
    return [
        output
        for outputs in _outputs(notebook)
        for output in outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def test_the_notebook_is_kept_as_it_ran():
    notebook = _read()
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # all of it, from the top, in one go
    assert _pictures(notebook) >= 3
    assert _complaints(notebook) == []
    assert TOUR.stat().st_size < 600_000


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    notebook, kept = _read(), _read()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    # not the flags and the cache of these tests, nor a profile of whoever runs them
    ours = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "PYTHONWARNINGS", "MPLBACKEND")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env["IPYTHONDIR"] = str(tmp_path / "ipython")
    # with no folder of kernels, "python3" is the interpreter that runs this test
    kernel = AsyncKernelManager(
        kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[])
    )
    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=300,
        allow_errors=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=env, cleanup_kc=True)
    assert _complaints(notebook) == []
    assert _pictures(notebook) == _pictures(kept)
    assert list(folder.iterdir()) == []
