"""All tests run on eight devices of the CPU, without implicit promotion of ranks.

With ``GRAMLIN_TEST_OPTIMIZED=1`` (``make slow``) XLA compiles them with all of its optimisations.
"""

import atexit
import ctypes
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the time is compilation: do less of it, and do it once for all processes of this run.
jax.config.update("jax_disable_most_optimizations", os.environ.get("GRAMLIN_TEST_OPTIMIZED") != "1")
PROGRAMS = "JAX_COMPILATION_CACHE_DIR"
if PROGRAMS not in os.environ:
    os.environ[PROGRAMS] = tempfile.mkdtemp(prefix="gramlin-programs-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ[PROGRAMS], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ[PROGRAMS])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's & ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"

PEAKS = {}  # GiB, by process


@pytest.hookimpl(tryfirst=True)  # before markers select
def pytest_collection_modifyitems(items):
    """Tests of training, and those that read a finished run, which they carry out first."""
    training = Path(__file__).parent / "training"
    for item in items:
        reads = any(name.startswith(("smoke", "tiny")) for name in item.fixturenames)
        if reads or item.path.is_relative_to(training):
            item.add_marker(pytest.mark.runs)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """A process that keeps the programs of all test modules grows beyond 4 GiB."""
    yield
    if _resident() > 1.5:
        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux":  # glibc keeps what was freed
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident():
    """GiB of this process in memory; the most that it ever had where that alone is known."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def pytest_sessionfinish(session):
    """Hand this process's peak memory to the one that reports."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    output = getattr(session.config, "workeroutput", None)
    if output is None:
        PEAKS["main"] = peak
    else:
        output["peak"] = peak


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Receive a worker's peak memory."""
    PEAKS[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak", float("nan"))


def pytest_terminal_summary(terminalreporter):
    """Print the peak memory of each process."""
    peaks = ", ".join(f"{name} {peak:.2f} GiB" for name, peak in PEAKS.items())
    terminalreporter.write_line(f"peak memory: {peaks}")


@pytest.fixture(scope="session")
def golden():
    """Loads ``tests/golden/NAME.npz`` as a dict."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as file:
            return {key: file[key] for key in file.files}

    return load


def torch_params(numbers, prefix=""):
    """Linen parameters of a DNN from arrays ``{prefix}layers_{i}_weight`` (out, in) and bias."""
    layers = {}
    while (key := f"{prefix}layers_{len(layers)}_weight") in numbers:
        layer = {"kernel": numbers[key].T}
        if (bias := key.replace("weight", "bias")) in numbers:
            layer["bias"] = numbers[bias]
        layers[f"Dense_{len(layers)}"] = layer
    return {"params": layers}


@pytest.fixture(scope="session")
def smoke_vae(tmp_path_factory):
    """The folder of a finished smoke run of figure 10, and its result; figure 5 goes beside it."""
    from experiments import vae
    from experiments.runs import perform

    name = "fig10_vae_target_linearity"
    folder = tmp_path_factory.mktemp("vae") / name / "run"
    return folder, perform(name, vae.PRESETS["smoke"], folder)[0]
