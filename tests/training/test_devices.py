"""A sweep spread over devices: each trains its share, and the numbers are those of one device."""

import chex
import jax
import pytest
from jax.sharding import AxisType, Mesh
from toy import MODEL, Slices, toy, train

from gramlin_jax import moments
from gramlin_jax.training import Checkpoint, Hook, Measure, ProgressBar, grid

DEVICES = jax.devices()[:4]
MESH = Mesh(DEVICES, "runs")
EXPLICIT = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)


def measured(params, hyper, data):
    return moments(MODEL.apply(params, data[0])[1][1])


class Stop(Hook):
    """Stop after two epochs."""

    def before_epoch(self, training):
        if training.epoch == 2:
            raise KeyboardInterrupt


def sweep(execution="map", *, hooks=(), **options):
    hooks = [*hooks, Measure(measured, data=toy(), at=(0, 3))]
    return train(sweep=grid(seed=range(8)), execution=execution, hooks=hooks, **options)


@pytest.fixture(scope="module")
def alone():
    return sweep()


def everything(result):
    return result.params, result.opt_state, result.history, result.measurements


def test_one_after_another_every_bit_is_that_of_one_device(alone, capsys):
    spread = sweep(mesh=EXPLICIT, hooks=[ProgressBar("here")])
    chex.assert_trees_all_equal(everything(spread), everything(alone))
    for leaf in jax.tree.leaves((spread.params, spread.opt_state)):
        rows = {shard.device: shard.index[0] for shard in leaf.addressable_shards}
        assert rows == {d: slice(2 * i, 2 * i + 2) for i, d in enumerate(EXPLICIT.devices.flat)}
    kernel = jax.tree.leaves(spread.run(5))[0]
    assert kernel.sharding.device_set == {DEVICES[0]}
    assert "here on 4 devices:" in capsys.readouterr().err


def test_all_at_once_the_numbers_are_those_of_one_device(alone):
    """To rounding: a product of several matrices at once may add in another order."""
    spread = sweep("vmap", mesh=MESH)
    chex.assert_trees_all_close(everything(spread), everything(alone), rtol=1e-5, atol=1e-6)
    assert {len(a.sharding.device_set) for a in jax.tree.leaves(spread.params)} == {4}


def test_batches_from_an_iterable_go_to_every_device():
    options = {"sweep": grid(seed=range(4)), "execution": "map", "epochs": 1}
    one, many = (train(Slices(toy()), mesh=mesh, **options) for mesh in (None, MESH))
    chex.assert_trees_all_equal(everything(many), everything(one))


def test_training_goes_on_on_fewer_devices(alone, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep(mesh=MESH, hooks=[Checkpoint(tmp_path, interval=0), Stop()])
    chex.assert_trees_all_equal(everything(sweep(hooks=[Checkpoint(tmp_path)])), everything(alone))


@pytest.mark.parametrize("runs", [1, 6])
def test_runs_that_do_not_divide_by_the_devices_are_refused(runs):
    with pytest.raises(ValueError, match=f"mesh has 4 devices for a sweep of {runs} runs: wanted"):
        train(sweep=grid(seed=range(runs)), mesh=MESH)
