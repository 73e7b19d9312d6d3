import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import MODEL, Slices, init, toy, train

from gramlin_jax import moments
from gramlin_jax.support.files import read_json, running, write_json
from gramlin_jax.support.signals import HELD, HeldSignals
from gramlin_jax.training import (
    Checkpoint,
    Hook,
    Measure,
    ProgressBar,
    checkpoints,
    classification_loss,
    grid,
)
from gramlin_jax.training.checkpoints import Checkpoints

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


@pytest.mark.runs
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


def measured(scale=1.0, data=None):
    return Measure(lambda params, hyper, data: scale * data[0].mean(), data=data)


def test_other_measured_data_are_refused(tmp_path):
    x, y = toy()
    train(hooks=[measured(data=(x, y)), Checkpoint(tmp_path)])
    before = snapshot(tmp_path)
    for data in [(x[::-1], y), None]:
        with pytest.raises(ValueError, match="another configuration: its measured_data.* is"):
            train(hooks=[measured(data=data), Checkpoint(tmp_path)])
    assert snapshot(tmp_path) == before


def scaled_loss(scale):
    inner = classification_loss(MODEL.apply)

    def loss(params, batch, key, hyper):
        value, metrics = inner(params, batch, key, hyper)
        return (value * scale).sum(), metrics

    return loss


SCALES = np.ones(3, np.float32)  # an array that a loss closes over
OTHER_SCALES = np.array([1, 1, 1.0000001], np.float32)


@pytest.mark.parametrize(
    ("options", "change", "name"),
    [
        ({}, dict(optimizer=optax.sgd(0.2, momentum=0.8)), "loss or optimizer"),
        (dict(loss=scaled_loss(1.0)), dict(loss=scaled_loss(2.0)), "loss or optimizer"),
        (dict(loss=scaled_loss(SCALES)), dict(loss=scaled_loss(OTHER_SCALES)), "loss or optimizer"),
        ({}, dict(init=lambda key: MODEL.init(key, jnp.ones((1, 6)) * 2)), None),
        ({}, dict(init=lambda key: {"params": init(key)["params"]}), None),
        ({}, dict(init=lambda key: init(jnp.zeros_like(key))), "init or optimizer"),
        ({}, dict(hooks=[measured(2.0)]), "Measure.function"),
    ],
)
def test_a_finished_run_does_not_answer_for_other_functions(tmp_path, options, change, name):
    options = {"hooks": [measured()], **options}
    hooks = options.pop("hooks")
    train(hooks=[*hooks, Checkpoint(tmp_path)], **options)
    before, change = snapshot(tmp_path), {**options, **change}
    hooks = [*change.pop("hooks", hooks), Checkpoint(tmp_path)]
    if name is None:  # another function, but the same program
        train(hooks=hooks, **change)
    else:
        with pytest.raises(ValueError, match=f"another program: its {name}, or"):
            train(hooks=hooks, **change)
        assert snapshot(tmp_path) == before


def test_other_versions_are_a_warning(tmp_path):
    train(hooks=[Checkpoint(tmp_path)])
    path = tmp_path / "program.json"
    kept = read_json(path)
    kept["versions"]["jax"] = "0.0.1"
    write_json(path, kept)
    with pytest.warns(RuntimeWarning, match="began with jax 0.0.1, now "):
        train(hooks=[Checkpoint(tmp_path)])
    path.write_text("null")
    with pytest.raises(ValueError, match="program.json is damaged"):
        train(hooks=[Checkpoint(tmp_path)])
    path.unlink()  # as the message of another program allows
    train(hooks=[Checkpoint(tmp_path)])


class Signal(Hook):
    """Ctrl-C in the first epoch, as often as named."""

    def __init__(self, times):
        self.times = times

    def before_epoch(self, training):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_waits_for_the_epoch_and_saves_it(tmp_path):
    handlers = [signal.getsignal(number) for number in HELD]
    whole = train()
    count = Count()
    with pytest.raises(KeyboardInterrupt):
        train(hooks=[Checkpoint(tmp_path / "once", interval=1e9), count, Signal(1)])
    assert [path.name for path in (tmp_path / "once" / "checkpoints").iterdir()] == ["1"]
    assert count.epochs == [1]  # as ``Log`` would, or the epoch would be in no log
    resumed = train(hooks=[count, Checkpoint(tmp_path / "once")])
    assert count.epochs == [2, 3]
    chex.assert_trees_all_equal(resumed.params, whole.params)
    with pytest.raises(KeyboardInterrupt):  # before there is anything to save
        train(hooks=[Signal(1), Checkpoint(tmp_path / "begun", interval=0)])
    assert not list((tmp_path / "begun" / "checkpoints").iterdir())
    with pytest.raises(KeyboardInterrupt):  # the second one does not wait
        train(hooks=[Checkpoint(tmp_path / "twice", interval=1e9), Signal(2)])
    assert not list((tmp_path / "twice" / "checkpoints").iterdir())
    assert [signal.getsignal(number) for number in HELD] == handlers


@pytest.mark.runs
def test_sigterm_goes_to_its_handler_once_the_state_is_saved():
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        held = HeldSignals()
        held.deliver()
        signal.raise_signal(signal.SIGTERM)
        assert not got and held.pending == signal.SIGTERM
        held.deliver()
        held.release()
        signal.raise_signal(signal.SIGTERM)
        assert got == [signal.SIGTERM] * 2
        other = threading.Thread(target=lambda: got.append(HeldSignals().pending))
        other.start()
        other.join()
        assert got[-1] is None, "outside of the main thread nothing is held"
    finally:
        signal.signal(signal.SIGTERM, before)


class Fail(Hook):
    def after_epoch(self, training):
        raise KeyboardInterrupt


def test_one_run_at_a_time_in_a_folder(tmp_path):
    hook = Checkpoint(tmp_path / "run")
    with running(tmp_path / "run"), pytest.raises(ValueError, match="another process is running"):
        train(hooks=[hook])
    bar = ProgressBar()
    with pytest.raises(KeyboardInterrupt):
        train(hooks=[hook, bar, Fail()])
    assert bar._bar is None  # closed
    train(hooks=[Checkpoint(tmp_path / "run")])  # and the folder is free


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train(hooks=[Checkpoint("~/run")])
    assert (tmp_path / "run" / "config.json").exists() and not (tmp_path / "~").exists()


TREE = {"w": np.arange(600, dtype=np.float32).reshape(20, 30), "n": np.arange(3)}
BLANK = {"w": jnp.zeros((20, 30)), "n": np.zeros(3, int)}


def tree(step):
    return {"w": TREE["w"] / step, "n": TREE["n"] + step}


@contextlib.contextmanager
def opened(folder):
    with contextlib.closing(Checkpoints(folder, BLANK, {}, {}, interval=0)) as kept:
        yield kept


# Orbax leaves reads under way behind when one of them fails; they end in a closed event loop.
@pytest.mark.runs
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_flipped_bit_in_any_file_is_refused_or_harmless(tmp_path):
    with opened(tmp_path) as kept:
        kept.save(2, tree(2))
        kept.save(3, tree(3))
    rng, refused = np.random.default_rng(0), []
    for path in sorted((tmp_path / "checkpoints" / "3").rglob("*")):
        whole = path.read_bytes() if path.is_file() else b""
        for bit in rng.integers(8 * len(whole), size=5) if whole else ():
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                with opened(tmp_path) as kept:
                    step, found = kept.restore()
            except ValueError as error:
                assert "is truncated or damaged" in str(error), (path, bit, error)
                refused.append(path)
            else:
                chex.assert_trees_all_equal(found, tree(step))
                assert step, (path, bit)
        if whole:
            path.write_bytes(whole)
    assert len(set(refused)) > 3


def test_a_mantissa_bit_is_refused(tmp_path, monkeypatch):
    """Of an array as it comes back, whatever the files' own checks miss."""
    with opened(tmp_path) as kept:
        kept.save(3, tree(3))
    import orbax.checkpoint as ocp

    restore = ocp.CheckpointManager.restore

    def flipped(*args, **kwargs):
        found = restore(*args, **kwargs)
        bits = np.array(found["['w']"]).view(np.uint32)
        bits[7, 7] ^= 1
        return {**found, "['w']": bits.view(np.float32)}

    monkeypatch.setattr(ocp.CheckpointManager, "restore", flipped)
    with opened(tmp_path) as kept, pytest.raises(ValueError, match=r"checksum of \['w'\] is not"):
        kept.restore()


def test_a_checkpoint_renamed_to_a_later_epoch_is_refused(tmp_path):
    with opened(tmp_path) as kept:
        kept.save(3, tree(3))
    (tmp_path / "checkpoints" / "3").rename(tmp_path / "checkpoints" / "7")
    with opened(tmp_path) as kept, pytest.raises(ValueError, match="7 is a checkpoint of another"):
        kept.restore()


def test_a_checkpoint_that_one_may_not_read_is_not_called_damaged(tmp_path, monkeypatch):
    with opened(tmp_path) as kept:
        kept.save(3, tree(3))
        with monkeypatch.context() as patch, pytest.raises(PermissionError, match="no permission"):
            patch.setattr(Path, "open", refuse(PermissionError("no permission")))
            kept.restore()
        with monkeypatch.context() as patch, pytest.raises(MemoryError, match="no memory"):
            patch.setattr(kept._manager, "restore", refuse(MemoryError("no memory")))
            kept.restore()


def refuse(error):
    def raises(*_, **__):
        raise error

    return raises


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    with opened(tmp_path) as kept:
        kept.save(2, tree(2))
        with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
            full = ValueError("RESOURCE_EXHAUSTED: x\n" * 100 + "No space left on device")
            patch.setattr(kept._manager, "save", refuse(full))
            kept.save(3, tree(3))
        assert "checkpoint 3 in" in str(caught.value) and "\n" not in str(caught.value)
        assert "(no space left on device); the same run goes on" in str(caught.value)
        assert caught.value.__suppress_context__
        assert kept.restore()[0] == 2


@pytest.mark.runs
def test_a_kill_at_any_file_event_keeps_the_last_checkpoint(tmp_path):
    """Copies of the folder at file events of the saves are what a kill would leave."""
    copies, state = [], {"step": 0, "on": False}

    def copy(event, args):
        if not state["on"] or event.split(".")[0] not in ("open", "os", "shutil"):
            return
        state["on"] = False  # copying has events of its own
        with contextlib.suppress(OSError):  # a file that another thread renames just now
            shutil.copytree(tmp_path / "run", tmp_path / f"{len(copies)}")
            copies.append(state["step"])
        state["on"] = True

    sys.addaudithook(copy)  # for good: it cannot be removed
    with opened(tmp_path / "run") as kept:
        for step in (1, 2, 3, 4):
            state["on"] = True
            kept.save(step, tree(step))
            state.update(on=False, step=step)
    assert len(copies) > 50
    for i in range(0, len(copies), 1 + len(copies) // 40):
        with opened(tmp_path / f"{i}") as kept:
            step, found = kept.restore()
        assert copies[i] <= step <= copies[i] + 1
        chex.assert_trees_all_equal(found, tree(step) if step else BLANK)
