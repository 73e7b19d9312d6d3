"""How data become stacks of equal batches, and where they lie."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from gramlin_jax._measure import stream
from gramlin_jax.support.devices import placement

MESH = Mesh(np.array(jax.devices()), ("data",))


def batches_of(n, size, mesh=None):
    x = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3)
    where = placement(mesh, None, ())
    pieces = stream.stacks((x, np.arange(n)), stream.Reader(), size, where)
    return x, [(batch.x, batch.y) for batch in pieces]


@pytest.mark.parametrize("mesh", [None, MESH], ids=["here", "spread"])
@pytest.mark.parametrize(("n", "size"), [(90, 40), (203, 64), (7, 100), (64, 64), (65, 64)])
def test_every_sample_is_there_once_in_order(n, size, mesh, monkeypatch):
    for limit in (2**28, 2000):
        monkeypatch.setattr(stream, "STACK_BYTES", limit)
        x, pieces = batches_of(n, size, mesh)
        assert all(a.shape[:2] == b.shape and a.shape[1] <= size for a, b in pieces)
        for i, whole in enumerate((x, np.arange(n))):
            rows = [np.asarray(piece[i]).reshape(-1, *whole.shape[1:]) for piece in pieces]
            np.testing.assert_array_equal(np.concatenate(rows), whole)
    assert len(pieces) > 1 or n * 16 <= 2000, "a stack has its limit"


def test_batches_are_of_one_shape_where_that_is_near():
    assert [a.shape for a, _ in batches_of(90, 40)[1]] == [(3, 30, 3)]
    assert [a.shape for a, _ in batches_of(89, 40)[1]] == [(2, 40, 3), (1, 9, 3)]


@pytest.mark.devices
def test_whole_batches_are_spread_over_the_devices():
    """203 = 7·29 divides by no batch size that eight devices share."""
    _, (whole, rest) = batches_of(203, 64, MESH)
    assert whole[0].shape == (3, 64, 3) and rest[0].shape == (1, 11, 3)
    assert whole[0].sharding.shard_shape(whole[0].shape) == (3, 8, 3)
    assert rest[0].sharding.is_fully_replicated


@pytest.mark.parametrize("progress", (True, False))
def test_a_bar_counts_batches(progress, capsys):
    data = np.zeros((10, 2), np.float32), np.zeros(10, int)
    made = list(stream.stacks(data, stream.Reader(), 5, placement(None, None, ())))
    assert list(stream.shown(iter(made), progress, delay=0)) == made
    bar = capsys.readouterr().err
    assert "measure: 2batch" in bar if progress else not bar
    assert list(stream.shown(iter(made), True)) == made  # a short pass shows none
    assert not capsys.readouterr().err
