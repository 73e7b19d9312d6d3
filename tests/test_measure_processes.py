"""``measure`` in two processes with two devices each: the numbers of one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import numpy as np
import processes
import pytest

from gramlin_jax import Measurement, measure

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.devices


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What both processes wrote."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, ROOT / "tests/processes.py", str(rank), str(port), folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert all(process.returncode == 0 for process in running), "\n".join(outputs)
    return folder


@pytest.fixture(scope="module")
def numbers(folder):
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    data = processes.X, processes.LABELS
    return measure(processes.network, processes.PARAMS, data, loss=processes.loss)


def test_all_ways_to_lie_give_the_numbers_of_one_device(numbers, alone):
    expected = alone.to_dict()
    names = set(numbers[0]) - {"weights", "refused", "unequal", "fewer", "smaller"}
    assert len(names) == 6
    for found in numbers:
        for name in names:
            for layer in expected["layers"]:
                chex.assert_trees_all_close(
                    found[name]["layers"][layer], expected["layers"][layer], rtol=1e-6, atol=1e-6
                )
            assert found[name]["count"] == 64
            np.testing.assert_allclose(found[name]["loss"], expected["loss"], rtol=1e-6)
            np.testing.assert_allclose(found[name]["accuracy"], expected["accuracy"])


def test_weights_of_each_process(numbers):
    data = processes.X, processes.LABELS, processes.WEIGHTS
    expected = measure(processes.network, processes.PARAMS, data, loss=processes.weighted)
    for found in numbers:
        for layer in expected:
            chex.assert_trees_all_close(
                found["weights"]["layers"][layer], expected[layer], rtol=1e-6, atol=1e-6
            )


def test_sums_that_are_spread_over_processes_are_gathered_for_a_file(folder, alone):
    for rank in (0, 1):
        sums = Measurement.load(folder / f"{rank}.npz").sums
        for layer in alone:
            chex.assert_trees_all_close(sums[layer], alone.sums[layer], rtol=1e-5, atol=1e-5)


def test_samples_that_do_not_divide(numbers):
    wanted = "has 31 samples on process {}: wanted a multiple of 2, its devices along the axes"
    for rank, found in enumerate(numbers):
        assert wanted.format(rank) in found["refused"]


def test_processes_with_different_numbers_of_samples(numbers):
    """Each of them says so, instead of one waiting for the other."""
    for found in numbers:
        assert "has [30, 32] samples on processes 0 to 1: wanted as many" in found["unequal"]
        assert "batches[2] has [8, 0] samples on processes 0 to 1" in found["fewer"]
        assert "batches[1] has [8, 6] samples on processes 0 to 1" in found["smaller"]
