"""``measure(dry_run=True)`` against what ``measure`` then holds, and operations by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax import measure

N = 60
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, 5, 4)).astype(np.float32), RNG.integers(0, 3, N)
PARAMS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {"in": (4, 6), "hidden": (2, 6, 6), "out": (30, 3)}.items()
}


def network(params, x):
    """Five tokens a sample, which the last layer reads side by side."""
    h = jnp.tanh(x @ params["in"])
    h, _ = jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), h, params["hidden"])
    return h.reshape(len(h), -1) @ params["out"]


def loss(out, y):
    return optax.losses.softmax_cross_entropy_with_integer_labels(out, y).mean()


METRICS = ["noise_floor", "gradient_norm", "dead_units"]  # which need all these sums
OPTIONS = {"loss": loss, "batch_size": 20, "width_limit": 25, "metrics": METRICS}


def test_bytes_are_those_of_the_sums():
    found = measure(network, PARAMS, (X, Y), dry_run=True, **OPTIONS)
    m = measure(network, PARAMS, (X, Y), **OPTIONS)
    held = {"in": ["in"], "hidden": ["hidden[0]", "hidden[1]"], "out": ["out"]}
    assert list(found.layers) == list(held)
    for name, parts in held.items():
        sums = [(m.sums[part].moments, m.sums[part].gradients) for part in parts]
        expected = sum(leaf.nbytes for leaf in jax.tree.leaves(sums))
        # A count of gradients belongs to all layers of a scan.
        assert found.layers[name].bytes == expected - 8 * (len(parts) - 1)
    assert found.bytes == sum(layer.bytes for layer in found.layers.values())


def test_nothing_runs():
    ran = []

    def noisy(params, x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        x = jax.pure_callback(lambda x: ran.append(1) or np.asarray(x), shape, x)
        return x[:, 0] @ params["in"] @ params["out"]

    params = {"in": PARAMS["in"], "out": np.ones((6, 3), np.float32)}
    options = {"loss": loss, "metrics": ["target_linearity"]}
    assert measure(noisy, params, (X, Y), dry_run=True, **options).layers and not ran
    assert measure(noisy, params, (X, Y), **options).layers and ran


def test_operations_by_hand():
    found = measure(network, PARAMS, (X, Y), dry_run=True, **OPTIONS)
    by_hand = {
        # Forward and two products backward; ΔᵀΔ; HᵀH and HᵀY of 5 · 4 features.
        "in": 3 * 2 * 5 * 4 * 6 + 2 * 5 * 6 * 6 + 2 * 20 * (20 + 3),
        # Two layers, whose 5 · 6 features are projected to 25.
        "hidden": 2 * (3 * 2 * 5 * 6 * 6 + 2 * 5 * 6 * 6 + 2 * 25 * (25 + 3) + 2 * 30 * 25),
        "out": 3 * 2 * 30 * 3 + 2 * 3 * 3 + 2 * 25 * (25 + 3) + 2 * 30 * 25,
    }
    assert {name: layer.flops for name, layer in found.layers.items()} == by_hand
    assert found.samples == N and "60 samples" in repr(found)
    assert "HᵀH 2×25×25" in repr(found) and "<td" in found._repr_html_()


def test_only_what_the_metrics_need():
    options = {**OPTIONS, "metrics": ["gradient_norm"], "layers": ["out"]}
    found = measure(network, PARAMS, [(X, Y)], dry_run=True, **options)
    assert found.layers["out"].sums == (("∇L", (30, 3)),) and found.samples is None
    assert found.layers["out"].flops == 3 * 2 * 30 * 3
    noise = measure(
        network, PARAMS, (X, Y), loss=loss, metrics=["gradient_noise"], dry_run=True
    ).layers["in"]
    assert noise.sums[-1] == ("Σ‖∇ℓ‖²", ())
    assert noise.flops == 3 * 2 * 5 * 4 * 6 + 2 * 5 * 5 * (4 + 6) + 2 * 20 * (20 + 3)
    for probes, back in ((None, 3), (2, 2)):  # each of three outputs, or two probes
        options = {"loss": loss, "metrics": ["isotropy"], "probes": probes}
        found = measure(network, PARAMS, (X, Y), dry_run=True, **options).layers["in"]
        assert found.flops == (1 + back) * 2 * 5 * 4 * 6 + back * 2 * 5 * 6 * 6
