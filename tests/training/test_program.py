import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import MODEL, Slices, init, toy, train

from gramlin_jax.training import Run, classification_loss, grid


def test_fit_is_a_loop_over_a_run():
    """Each run of a sweep as ``start`` and ``epoch`` alone make it, jitted or not."""

    def optimizer(hyper):
        return optax.adam(hyper["rate"])

    fitted = train(optimizer=optimizer, sweep=grid(rate=(0.01, 0.1), seed=(0, 7)))
    run = Run(init, classification_loss(MODEL.apply), optimizer, batch_size=16)
    hyper, data = {"rate": 0.1, "seed": 7}, jax.tree.map(jnp.asarray, toy())
    state, losses = run.start(hyper), []
    for epoch in range(3):
        state, metrics = jax.jit(run.epoch)(state, data, hyper, epoch)
        losses.append(metrics["loss"])
    chex.assert_trees_all_close(state.params, fitted.run(3), rtol=1e-4, atol=1e-6)
    last = [run.epoch(state, arrays, hyper, 3)[1]["loss"] for arrays in (data, toy())]
    assert last[0] == last[1], "data may be NumPy's, too"
    np.testing.assert_allclose(losses, fitted.history["loss"][3], rtol=1e-5)


def test_a_step_is_the_optimizers():
    run = Run(init, classification_loss(MODEL.apply), optax.sgd(0.1))
    hyper = {"seed": 1}
    state = run.start(hyper)
    chex.assert_trees_all_equal(state.params, init(jax.random.key(1)))
    after, metrics = run.step(state, toy(), run.batch_key(hyper, 0, 0), hyper)
    loss, gradient = jax.value_and_grad(lambda p: run.loss(p, toy(), None, {})[0])(state.params)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    chex.assert_trees_all_close(after.params, wanted, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)


def test_several_batches_a_step_have_the_loss_too():
    """As a schedule of the loss needs it, which ended in Python's error."""
    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1))
    fitted = train(optimizer=optax.MultiSteps(plateau, 2))
    assert fitted.opt_state.gradient_step.tolist() == [6]  # of three epochs of four batches
    best = fitted.opt_state.inner_opt_state[1].best_value
    assert np.isfinite(best).all() and (best <= fitted.history["loss"].max()).all()


@pytest.mark.parametrize("data", [toy(), Slices(toy())])
def test_each_batch_has_a_key_of_its_own(data):
    """Or dropout would repeat its masks."""
    seen = []

    def recording(params, batch, key, hyper):
        bits = jax.random.key_data(key)
        jax.debug.callback(lambda bits: seen.append(tuple(np.array(bits))), bits)
        return classification_loss(MODEL.apply)(params, batch, key, hyper)

    train(data, loss=recording, sweep=grid(seed=(0, 1)))
    jax.effects_barrier()
    used = {tuple(np.array(jax.random.key_data(jax.random.key(seed)))) for seed in (0, 1)}
    assert len(set(seen) - used) == 2 * 3 * 4  # runs, epochs, batches; and none is that of init


def order(seed, epoch, **options):
    """The order in which an epoch takes its samples."""
    seen, hyper = [], {"seed": seed}

    def recording(params, batch, key, hyper):
        jax.debug.callback(lambda row: seen.append(int(row)), batch[0], ordered=True)
        return 0.0 * params, {}

    run = Run(lambda key: jnp.zeros(()), recording, optax.sgd(0.1), batch_size=1, **options)
    run.epoch(run.start(hyper), jnp.arange(8), hyper, epoch)
    jax.effects_barrier()
    return tuple(seen)


def test_orders_are_drawn_by_seed_and_epoch():
    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(drawn) == list(range(8)) for drawn in orders)
    assert len(set(orders)) == 4 and order(1, 1) == orders[3]
    assert order(0, 0, shuffle=False) == tuple(range(8))


def test_a_batch_larger_than_the_data_is_all_of_them():
    all_, larger = train(batch_size=None), train(batch_size=64)
    chex.assert_trees_all_equal(all_.params, larger.params)
