import jax
import pytest

from gramlin_jax.training import choose_execution, grid


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
