import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gramlin_jax.training import check_sweep, choose_execution, fit, grid, over_runs


def test_other_executions_are_refused():
    with pytest.raises(ValueError, match="execution is 'pmap': wanted 'vmap' or 'map'"):
        over_runs(jnp.add, execution="pmap")


def test_choice_of_execution():
    assert choose_execution(10**3, 20) == "vmap"
    assert choose_execution(10**9, 1) == choose_execution(1, 1) == "map"
    if jax.default_backend() == "cpu":
        assert choose_execution(10**7, 20) == "map"


def test_grid():
    sweep = grid(learning_rate=(0.1, 0.01), seed=range(2))
    assert sweep["learning_rate"].tolist() == [0.1, 0.1, 0.01, 0.01]
    assert sweep["seed"].tolist() == [0, 1, 0, 1] and sweep["seed"].dtype.kind == "i"
    with pytest.raises(ValueError, match="seed has no values"):
        grid(seed=())
    with pytest.raises(ValueError, match=r"rate is 0.1: wanted values, as \(0.1,\)"):
        grid(rate=0.1)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("n", (1, 16777217), r"sweep\['n'\] has the value 16777217: wanted integers that float32"),
        ("n", (2**62 + 2**10, 1), "has the value 4611686018427388928: wanted integers"),
        ("rate", (0.1, None), r"sweep\['rate'\] is \[0.1, None\]: wanted numbers"),
        ("rate", (0.1, float("nan")), r"sweep\['rate'\] is \[0.1, nan\]: wanted numbers"),
        ("rate", ("0.1", "1"), "wanted numbers"),
        ("rate", (1e39, 1.0), "has the value 1e\\+39: wanted numbers that float32 holds"),
        ("rate", (0.1, 0.1 + 1e-9), "column of mean 0.1 and standard deviation 5e-10: wanted"),
        ("seed", (0, 2**31), r"sweep\['seed'\] has the value 2147483648: wanted integers"),
        ("seed", (0, -(2**63)), r"sweep\['seed'\] has the value -9223372036854775808: wanted"),
    ],
)
def test_values_that_would_change_are_refused(name, values, message):
    for sweep in (grid(**{name: values}), {name: values}):
        with pytest.raises(ValueError, match=message):
            check_sweep(sweep)


def test_values_that_float32_holds_are_taken():
    sweep = check_sweep(grid(n=(16777216, -(2**40)), rate=(0.1, 1e-3, float("inf")), on=(True,)))
    assert set(sweep["n"]) == {16777216, -(2**40)}
    assert set(sweep["rate"]) == {0.1, 1e-3, np.inf}
    assert (sweep["on"] == 1).all()


def test_values_are_recorded_as_given_and_used_in_float32():
    def loss(params, batch, key, hyper):
        return hyper["rate"] * params, {"rate": hyper["rate"]}

    fitted = fit(
        lambda key: jnp.zeros(()),
        loss,
        lambda hyper: optax.sgd(hyper["rate"]),
        np.zeros((1, 1), np.float32),
        epochs=1,
        batch_size=None,
        sweep=grid(rate=(0.1, 3)),
        hooks=(),
    )
    assert fitted.sweep["rate"].tolist() == [0.1, 3.0]
    assert fitted.history["rate"].dtype == np.float32
    np.testing.assert_array_equal(fitted.history["rate"][:, 0], np.float32([0.1, 3]))
    np.testing.assert_array_equal(fitted.params, -(np.float32([0.1, 3]) ** 2))
