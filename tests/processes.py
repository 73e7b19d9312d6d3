"""One of two processes with two devices each, run by ``test_measure_processes.py``.

``python processes.py RANK PORT FOLDER`` writes what ``measure`` says to ``FOLDER/RANK.json``.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 64)
WEIGHTS = RNG.uniform(0.5, 2, 64).astype(np.float32)
PARAMS = {
    "in": RNG.normal(size=(8, 16)).astype(np.float32),
    "out": RNG.normal(size=(16, 3)).astype(np.float32),
}
SPECS = {"in": P(None, "model"), "out": P("model", None)}


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def loss(out, y):
    return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()


def weighted(out, y, w):
    each = optax.softmax_cross_entropy_with_integer_labels(out, y)
    return (w * each).sum() / w.sum()


def scenarios(rank):
    """By name, what ``measure`` says of samples and parameters that lie in several ways."""
    from gramlin_jax import measure

    half = slice(rank * 32, rank * 32 + 32)
    own = X[half], LABELS[half]
    found = {}
    # Parameters are cut within each process, or across both.
    for name, shape, kind in (
        ("within", (2, 2), AxisType.Auto),
        ("within", (2, 2), AxisType.Explicit),
        ("across", (1, 4), AxisType.Auto),
    ):
        mesh = jax.make_mesh(shape, ("data", "model"), axis_types=(kind, kind))
        params = {
            k: jax.make_array_from_callback(
                v.shape, NamedSharding(mesh, SPECS[k]), lambda index, v=v: v[index]
            )
            for k, v in PARAMS.items()
        }
        local = (X, LABELS) if name == "across" else own
        label = f"{name} {kind.name}"
        found[label] = measure(network, params, local, loss=loss, batch_size=16)
        if name == "within":
            spread = NamedSharding(mesh, P("data"))
            whole = [jax.make_array_from_process_local_data(spread, a) for a in local]
            found[f"{label}, global"] = measure(network, params, tuple(whole), loss=loss)
    pieces = [tuple(a[at : at + 8] for a in own) for at in range(0, 32, 8)]
    mesh = jax.make_mesh((4,), ("data",))
    found["iterable"] = measure(network, PARAMS, pieces, loss=loss, mesh=mesh)
    triple = (*own, WEIGHTS[half])
    found["weights"] = measure(network, PARAMS, triple, loss=weighted, mesh=mesh)
    return found


def refused(batches):
    """The error of this process's samples."""
    from gramlin_jax import measure

    try:
        measure(network, PARAMS, batches, loss=loss, mesh=jax.make_mesh((4,), ("data",)))
    except ValueError as error:
        return str(error)
    return ""


def main():
    rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
    found = scenarios(rank)
    found["across Auto"].save(folder / f"{rank}.npz")
    numbers = {name: m.to_dict() for name, m in found.items()}
    for name, n in (("refused", 31), ("unequal", 30 + 2 * rank)):
        numbers[name] = refused((X[:n], LABELS[:n]))
    batch = X[:8], LABELS[:8]
    numbers["fewer"] = refused([batch] * (3 - rank))
    numbers["smaller"] = refused([batch, tuple(a[: 8 - 2 * rank] for a in batch)])
    (folder / f"{rank}.json").write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
