import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")  # before anyone imports keras
# XLA complains, wrongly, that programs from its cache were compiled for another machine
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compile far more than they compute. Another XLA may not know these flags and would end the
# process, so a newer JAX compiles as its users do.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    plainly = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
    os.environ.setdefault("XLA_FLAGS", plainly)

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

_real_data_outcomes: list[str] = []
_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """What is compiled once is shared by the test processes and by the commands they start."""
    os.umask(0o022)  # tests of files' modes assume the usual one
    if not hasattr(config, "workerinput"):
        os.environ[_CACHE] = tempfile.mkdtemp(prefix="bfjax-tests-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(autouse=True, scope="module")
def _forgotten_programs() -> Iterator[None]:
    """Each program that XLA compiles takes mappings of memory, and Linux gives a process 65,530."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds chest_xray/, chest_xray_originals/ and weights/."""
    folder = os.environ.get("BFJAX_TEST_DATA")
    if not folder:  # a newcomer has no X-rays; .ci/run demands that these tests ran
        pytest.skip("needs the chest X-rays: set BFJAX_TEST_DATA to the folder that holds them")
    return Path(folder)


@pytest.fixture(scope="session")
def dciodvfy() -> Callable[[Path], list[str]]:
    """What dciodvfy, of Debian's dicom3tools, calls an error in a DICOM file."""
    program = shutil.which("dciodvfy")
    # A skip is right where a newcomer's machine lacks this program, which pip cannot install.
    # .ci/run installs it and sets the variable, so that there a missing one is a failure.
    if program is None:
        reason = "needs dciodvfy, which is not installed (Debian: dicom3tools)"
        if os.environ.get("BFJAX_REQUIRE_DCIODVFY"):
            pytest.fail(f"BFJAX_REQUIRE_DCIODVFY is set, but the test {reason}")
        pytest.skip(reason)

    def errors(path: Path) -> list[str]:
        done = subprocess.run([program, path], capture_output=True, text=True, errors="replace")
        said = (done.stdout + done.stderr).splitlines()
        assert any("IOD" in line or "CRImage" in line or "SCImage" in line for line in said), said
        return [line for line in said if line.startswith("Error")]

    return errors


@pytest.fixture
def x64():
    """Float64 for one test: finite differences need it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked():
    """Without the run-time type checks, as users run bfjax: bad values reach our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_runtest_logreport(report):
    if "real_data" in report.keywords and (report.when == "call" or report.skipped):
        _real_data_outcomes.append(report.outcome)


def pytest_sessionfinish(session, exitstatus):
    """With BFJAX_REQUIRE_REAL_DATA set, a run in which those tests did not all run has failed."""
    if hasattr(session.config, "workerinput"):  # one of several processes: it saw only its share
        return
    shutil.rmtree(os.environ[_CACHE], ignore_errors=True)
    if os.environ.get("BFJAX_REQUIRE_REAL_DATA") and exitstatus == 0:
        ran = len(_real_data_outcomes)
        skipped = _real_data_outcomes.count("skipped")
        if ran == 0 or skipped:
            print(f"\nreal data was required, but {ran} such tests ran and {skipped} were skipped")
            session.exitstatus = 1
