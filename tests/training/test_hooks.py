from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import MODEL, Slices, init, toy, train

from gramlin_jax import Moments, moments, noise_floor
from gramlin_jax.training import Checkpoint, Hook, Log, Measure, ProgressBar, WarnOfDivergence, grid
from gramlin_jax.training.sweeps import run_labels


def test_measures_metrics_and_moments_at_chosen_epochs():
    x, y = toy()

    def measure(params, hyper, data):
        logits, features = MODEL.apply(params, data[0])
        accuracy = jnp.mean(logits.argmax(1) == data[1])
        return {"moments": moments(features[0]), "accuracy": accuracy}

    result = train(hooks=[Measure(measure, at=(0, 2, 3))], sweep=grid(seed=range(2)))
    np.testing.assert_array_equal(result.measured_at, [0, 2, 3])
    m = result.measurements["moments"]
    assert isinstance(m, Moments)
    chex.assert_shape(m.feature_scatter, (2, 3, 8, 8))
    chex.assert_type(m.feature_scatter, np.float64)
    for run in range(2):
        first = MODEL.init(jax.random.key(run), x[:1])
        for params, column in ((first, 0), (result.run(run), 2)):
            expected = moments(MODEL.apply(params, x)[1][0]).feature_scatter
            np.testing.assert_allclose(m.feature_scatter[run, column], expected, rtol=1e-4)
            rows = jax.tree.map(lambda a, r=run, c=column: a[r, c], m)
            np.testing.assert_allclose(noise_floor(rows), 8 / 49, rtol=1e-12)
    floors = jax.vmap(jax.vmap(noise_floor))(m)  # as float64, not as what JAX makes of NumPy's
    np.testing.assert_allclose(floors, 8 / 49, rtol=1e-12)
    first = train(hooks=[Measure(measure, (x[:20], y[:20]), at=(0,))])
    np.testing.assert_array_equal(first.measurements["moments"].count, [[20]])
    assert train(hooks=[Measure(measure, at=())]).measurements is None


def test_divergence_is_reported():
    with pytest.warns(RuntimeWarning, match="run 1 is NaN or infinite from epoch"):
        result = train(
            optimizer=lambda hyper: optax.sgd(hyper["learning_rate"]),
            sweep=grid(learning_rate=(0.1, 1e30)),
            epochs=4,
            hooks=[WarnOfDivergence()],
        )
    assert np.isfinite(result.history["loss"][0]).all()
    assert not np.isfinite(result.history["loss"][1]).all()


def test_divergence_is_reported_from_the_epoch_at_which_it_began():
    """The first epoch is 1, as in ``Log`` and ``Watch``."""
    losses = np.ones((3, 5))
    losses[1, 2:], losses[2, 4] = np.inf, np.nan
    with pytest.warns(RuntimeWarning) as warned:
        WarnOfDivergence().end(SimpleNamespace(history={"loss": losses}))
    starts = [str(warning.message).split(" on: ")[0] for warning in warned]
    assert starts == [
        "the loss of run 1 is NaN or infinite from epoch 3",
        "the loss of run 2 is NaN or infinite from epoch 5",
    ]


def test_a_generator_of_epochs_serves_every_call():
    """Of the second one nothing was measured."""
    hook = Measure(lambda params, hyper, data: 1.0, at=(epoch for epoch in (0, 1)))
    for _ in range(2):
        assert train(epochs=1, hooks=[hook]).measured_at.tolist() == [0, 1]


def test_measures_at_all_epochs_unless_told():
    result = train(Slices(toy()), hooks=[Measure(lambda p, h, d: d.sum(), np.ones(3))])
    assert result.measured_at.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(result.measurements, [[3.0] * 4])


@pytest.mark.parametrize(
    ("data", "hooks", "message"),
    [
        (toy(), [Measure(init, at=(0, 4))], r"Measure.at is \[0, 4\]: wanted epochs from 0 to 3"),
        (toy(), [Measure(init, at=(0.5, 2))], r"Measure.at is \[0.5, 2.0\]: wanted epochs from"),
        (toy(), [Measure(init, at=(-1,))], r"Measure.at is \[-1\]: wanted epochs from 0 to 3"),
        (toy(), [Measure(init, at=2)], r"Measure.at is 2: wanted several epochs, as \(2,\)"),
        (Slices(toy()), [Measure(init)], "Measure.data is None where data yields batches"),
        (toy(), [Measure(lambda p, h, d: 0.0)] * 2, "hooks has two Measure: wanted one"),
    ],
)
def test_measurements_that_cannot_be(data, hooks, message):
    with pytest.raises(ValueError, match=message):
        train(data, hooks=hooks)


@pytest.mark.parametrize("hooks", [ProgressBar(), [ProgressBar], [None], [lambda training: None]])
def test_hooks_of_another_kind(hooks):
    with pytest.raises(TypeError, match="hooks is .*: wanted a list of hooks, as .ProgressBar"):
        train(hooks=hooks)


def test_an_interval_that_is_no_number_is_refused_before_training(tmp_path):
    with pytest.raises(TypeError, match="Checkpoint.interval is '30': wanted seconds"):
        train(hooks=[Checkpoint(tmp_path, interval="30")])
    assert not list(tmp_path.iterdir())


class Diary(Hook):
    """What is called when."""

    def __init__(self):
        self.lines = []

    def prepare(self, training):
        self.lines.append(("prepare", training.epoch))

    def start(self, training):
        self.lines.append(("start", training.epoch))

    def before_epoch(self, training):
        self.lines.append(("before", training.epoch))

    def after_epoch(self, training):
        self.lines.append(("after", training.epoch))

    def end(self, training):
        self.lines.append(("end", training.epoch))


def test_hooks_are_called_in_order():
    diary = Diary()
    train(epochs=2, hooks=[diary])
    epochs = [("before", 0), ("after", 1), ("before", 1), ("after", 2)]
    assert diary.lines == [("prepare", 0), ("start", 0), *epochs, ("end", 2)]


def test_the_bar_and_the_warning_are_there_unless_told(capsys):
    with pytest.warns(RuntimeWarning, match="run 0 is NaN or infinite from epoch"):
        train(hooks=None, optimizer=optax.sgd(1e30))
    assert "3/3" in capsys.readouterr().err
    train(hooks=[ProgressBar()])
    bar = capsys.readouterr().err
    assert "3/3" in bar and "compiling" in bar and "compiling" not in bar.split("\r")[-1]
    train()
    assert not capsys.readouterr().err


def test_logs_each_run_of_a_sweep():
    lines = []
    log = Log(lambda values, epoch: lines.append((epoch, values)))
    single = train(hooks=[log])
    assert [epoch for epoch, _ in lines] == [1, 2, 3]
    assert [values["loss"] for _, values in lines] == single.history["loss"][0].tolist()
    lines.clear()
    swept = train(
        optimizer=lambda hyper: optax.sgd(hyper["rate"]), sweep=grid(rate=(0.5, 0.1)), hooks=[log]
    )
    names = ["loss/seed=0 rate=0.5", "loss/seed=0 rate=0.1"]
    assert set(lines[2][1]) == {*names, *(name.replace("loss", "accuracy") for name in names)}
    assert [lines[2][1][name] for name in names] == swept.history["loss"][:, 2].tolist()


def test_runs_of_close_seeds_have_lines_of_their_own():
    lines = {}
    sweep = grid(seed=(20260101, 20260102), rate=(0.1, 0.1000001, 1e6))
    train(epochs=1, sweep=sweep, hooks=[Log(lambda values, epoch: lines.update(values))])
    names = {name for name in lines if name.startswith("loss")}
    rates = ("0.1", "0.1000001", "1e+06")
    assert names == {f"loss/seed={s} rate={r}" for s in (20260101, 20260102) for r in rates}
    assert run_labels({"rate": np.float32([0.1, 0.25])}) == ["rate=0.1", "rate=0.25"]
