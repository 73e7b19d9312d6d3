import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import numpy as np
import optax
import pytest
from toy import MODEL, Slices, toy, train

from gramlin_jax import moments
from gramlin_jax.training import Checkpoint, Hook, Measure, checkpoints, grid

SCRIPT = """
import sys
sys.path[:0] = {path!r}
import conftest  # the same settings of the compiler, or the last bits differ
from test_checkpoints import train_long
from gramlin_jax.training import Checkpoint

train_long(sys.argv[1], [Checkpoint(sys.argv[2], interval=0)])
"""


def train_long(source, hooks=()):
    """Forty epochs of three runs; the ``hooks`` come before the measurement."""

    def measure(params, hyper, data):
        return moments(MODEL.apply(params, data[0])[1][1])

    def shuffled(epoch):
        rows = np.random.default_rng(epoch).permutation(50)
        return Slices(tuple(a[rows] for a in toy()))

    measured = Measure(measure, data=toy(), at=(0, 13, 40))
    data = toy() if source == "arrays" else shuffled
    return train(data, epochs=40, sweep=grid(seed=range(3)), hooks=[*hooks, measured])


def run_and_kill(source, directory, kill_at):
    """Train in a process of its own, which is killed once checkpoint ``kill_at`` is there."""
    here = Path(__file__)
    script = SCRIPT.format(path=[str(here.parent), str(here.parents[1]), str(here.parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", script, source, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None:
        steps = [
            int(p.name) for p in Path(directory).glob("checkpoints/[0-9]*") if p.name.isdigit()
        ]
        if max(steps, default=0) >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output


class Count(Hook):
    """The epochs that are trained."""

    def prepare(self, training):
        self.epochs = []

    def after_epoch(self, training):
        self.epochs.append(training.epoch)


@pytest.mark.parametrize("source", ["arrays", "batches"])
def test_a_killed_run_goes_on_and_ends_bitwise_the_same(tmp_path, source):
    count, checkpoint = Count(), Checkpoint(tmp_path / "run")
    whole = train_long(source)
    run_and_kill(source, tmp_path / "run", kill_at=15)
    resumed = train_long(source, [count, checkpoint])
    assert 15 < count.epochs[0] and count.epochs[-1] == 40
    for field in ("params", "opt_state", "history", "measurements"):
        chex.assert_trees_all_equal(getattr(resumed, field), getattr(whole, field))
    again = train_long(source, [count, checkpoint])
    assert not count.epochs
    chex.assert_trees_all_equal(again.params, whole.params)


class Clock(Hook):
    """Ten seconds an epoch."""

    now = 0.0

    def before_epoch(self, training):
        self.now += 10

    def monotonic(self):
        return self.now


@pytest.mark.parametrize(
    ("interval", "kept"), [(0, {7, 8}), (10, {7, 8}), (25, {6, 8}), (1000, {8})]
)
def test_checkpoints_are_an_interval_apart(tmp_path, monkeypatch, interval, kept):
    """Of epochs 3, 6 and 8 at an interval of 25 seconds, the newest two stay."""
    clock = Clock()
    monkeypatch.setattr(checkpoints, "time", clock)
    train(epochs=8, hooks=[clock, Checkpoint(tmp_path, interval)])
    assert {int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()} == kept


def snapshot(folder):
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


# Orbax leaves reads under way behind when one of them fails; they end in a closed event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path):
    train(hooks=[Checkpoint(tmp_path, interval=0)])
    good = train(hooks=[Checkpoint(tmp_path, interval=0)])
    newest = tmp_path / "checkpoints" / "3"
    for file in newest.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="checkpoint .*3 is truncated or damaged.*move it away"):
        train(hooks=[Checkpoint(tmp_path)])
    assert snapshot(tmp_path) == before
    shutil.rmtree(newest)  # the remedy that the message names
    chex.assert_trees_all_equal(train(hooks=[Checkpoint(tmp_path)]).params, good.params)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(epochs=4), "epochs"),
        (dict(batch_size=10), "batch_size"),
        (dict(sweep=grid(seed=(1,))), "sweep.seed"),
        (dict(optimizer=optax.adam(0.1)), "arrays..state.opt_state"),
        (dict(data=toy(d=5), width=5), "data"),
        (dict(data=toy(n=60)), "data"),
        (dict(data=(-toy()[0], toy()[1])), "data"),
        (dict(shuffle=False), "shuffle"),
        (dict(data=Slices(toy())), "batch_size"),
    ],
)
def test_a_folder_of_another_run_is_left_alone(tmp_path, change, name):
    train(hooks=[Checkpoint(tmp_path)])
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=f"another configuration: its {name}.* is"):
        train(hooks=[Checkpoint(tmp_path)], **change)
    assert snapshot(tmp_path) == before


def test_a_folder_without_its_configuration_is_left_alone(tmp_path):
    train(hooks=[Checkpoint(tmp_path)])
    (tmp_path / "config.json").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="holds files but no config.json"):
        train(hooks=[Checkpoint(tmp_path)], sweep=grid(seed=(5,)))
    assert snapshot(tmp_path) == before


def test_other_batches_are_told_by_the_first(tmp_path):
    x, y = toy()
    train(Slices((x, y)), hooks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="another configuration: its data.* is"):
        train(Slices((-x, y)), hooks=[Checkpoint(tmp_path)])
