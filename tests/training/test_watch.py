import chex
import jax
import numpy as np
import pytest
from toy import Slices, toy, train

from gramlin_jax import moments, target_linearity
from gramlin_jax.training import Checkpoint, Hook, Log, Measure, Run, Watch

OPTIONS = {"metrics": ["target_linearity", "kernel_norm"]}
SEEDS = {"seed": np.arange(2)}


def one_hot(batch):
    return jax.nn.one_hot(batch[1], 3)


@pytest.fixture(scope="module")
def watched():
    """Two runs of three epochs, each of four steps, of which every second is watched."""
    logged = []
    hook = Watch(one_hot, 2, OPTIONS, lambda values, epoch: logged.append((epoch, values)))
    fitted = train(sweep=SEEDS, hooks=[hook], execution="map", shuffle=False)
    return hook, fitted, logged


def test_training_is_the_same_bit_for_bit(watched):
    without = train(sweep=SEEDS, execution="map", shuffle=False)
    chex.assert_trees_all_equal(watched[1].params, without.params)
    chex.assert_trees_all_equal(watched[1].opt_state, without.opt_state)
    chex.assert_trees_all_equal(watched[1].history, without.history)


def test_each_epoch_has_the_batches_that_were_watched_in_it(watched):
    hook, _, logged = watched
    assert list(hook.measurements) == [1, 2, 3] and len(hook.measurements[1]) == 2
    x, y = toy()
    rows = np.r_[0:16, 32:48]  # the first and the third of 16, 16, 16 and 2
    first = moments(x[rows], jax.nn.one_hot(y[rows], 3))
    for epoch in (1, 2, 3):
        for m in hook.measurements[epoch]:
            assert m.count == 32 and not m.sums
            found = m["params/Dense_0/kernel"]["target_linearity"]
            np.testing.assert_allclose(found, target_linearity(first), rtol=1e-6)
    assert [epoch for epoch, _ in logged] == [1, 2, 3]
    name = "params/Dense_1/kernel/kernel_norm/seed=1"
    expected = hook.measurements[3][1]["params/Dense_1/kernel"]["kernel_norm"]
    assert logged[2][1][name] == expected


def test_an_epoch_in_which_no_step_is_watched_has_no_measurement():
    hook = Watch(one_hot, 5, OPTIONS)  # of four steps an epoch: 0, 5, 10, 15 and 20
    train(hooks=[hook], epochs=6)
    assert list(hook.measurements) == [1, 2, 3, 4, 6]
    train(hooks=[hook], epochs=2)  # nothing is left of the networks before
    assert list(hook.measurements) == [1, 2]


def test_a_logger_may_be_that_of_log_too():
    """Their losses had one name, and NaN took the place of the accuracy in Weights & Biases."""
    logged = []

    def log(values, epoch):
        logged.extend(values)

    train(hooks=[Log(log), Watch(one_hot, 2, OPTIONS, log)], epochs=1)
    assert len(set(logged)) == len(logged)
    assert {"loss", "accuracy", "watched/loss", "watched/accuracy", "watched/count"} <= set(logged)


def test_batches_fade_in_each_epoch_anew():
    hook = Watch(one_hot, 2, {**OPTIONS, "decay": 0.5})
    train(hooks=[hook], epochs=2)
    counts = [hook.measurements[epoch][0].count for epoch in (1, 2)]
    np.testing.assert_allclose(counts, 16 * 1.5**2 / 1.25)  # (Σw)²/Σw² of two batches of 16


def test_a_measure_behind_it_is_compiled_once():
    traces = []

    def total(params, hyper, data):
        traces.append(params)
        return params["params"]["Dense_0"]["kernel"].sum()

    train(hooks=[Watch(one_hot, 2, OPTIONS), Measure(total)], epochs=2)
    both, traces[:] = len(traces), []
    train(hooks=[Measure(total)], epochs=2)
    assert both == len(traces)


def test_two_watches_are_refused():
    with pytest.raises(ValueError, match="hooks has two Watch: wanted one"):
        train(hooks=[Watch(one_hot, 2, OPTIONS), Watch(one_hot, 3, OPTIONS)])


class Halve(Hook):
    """Half of each gradient."""

    def wrap(self, run, example, hyper):
        class Halved(Run):
            def update(self, state, loss, gradient, where):
                return super().update(state, loss, jax.tree.map(lambda g: g / 2, gradient), where)

        return Halved(**vars(run))


def test_a_run_of_another_class_is_refused():
    """It was trained without what that class changes."""
    with pytest.raises(ValueError, match="behind one that trains a Halved: wanted Watch first"):
        train(hooks=[Halve(), Watch(one_hot, 2, OPTIONS)])


class Stop(Hook):
    def before_epoch(self, training):
        if training.epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.long
@pytest.mark.parametrize("order", [1, -1])
def test_it_resumes_and_watches_an_iterable(watched, tmp_path, order):
    options = {"sweep": SEEDS, "execution": "map", "batch_size": None}
    with pytest.raises(KeyboardInterrupt):
        hooks = [Watch(one_hot, 2, OPTIONS), Checkpoint(tmp_path, interval=0)][::order]
        train(Slices(toy()), hooks=[*hooks, Stop()], **options)
    hook = Watch(one_hot, 2, OPTIONS)
    fitted = train(Slices(toy()), hooks=[hook, Checkpoint(tmp_path)][::order], **options)
    assert list(hook.measurements) == [3] and hook.measurements[3][0].count == 32
    for a, b in zip(hook.measurements[3], watched[0].measurements[3], strict=True):
        chex.assert_trees_all_close(a.metrics, b.metrics, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(fitted.params, watched[1].params, rtol=1e-5)
