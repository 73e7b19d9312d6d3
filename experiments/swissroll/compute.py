"""Train the network of figure 1 and follow its virtual update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramlin_jax import GradientMoments, backward, moments, target_linearity, weight_gram
from gramlin_jax._moments.gradients import reduce_gradients
from gramlin_jax.data import swiss_roll
from gramlin_jax.metrics.virtual import (
    gram_change,
    input_gradients,
    virtual_alignment,
    virtual_covariance,
)
from gramlin_jax.models.initializers import torch_bias, torch_kernel
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import over_runs

from ..shared.devices import mesh_for
from ..shared.provenance import claim_data
from ..shared.results import Computed
from . import LAYERS, Config

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Network(nn.Module):
    """Two hidden layers of ``width`` and one output; the first layer has no bias."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Outputs (n, 1) of inputs (n, 2), in float64."""
        for layer, units in enumerate((self.width, self.width, 1)):
            x = nn.Dense(
                units,
                use_bias=layer > 0,
                kernel_init=torch_kernel,
                bias_init=torch_bias(x.shape[-1]),
                param_dtype=jnp.float64,
            )(x)
            x = jax.nn.gelu(x, approximate=False) if layer < LAYERS - 1 else x
        return x


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train all seeds in one program and follow the virtual update along the way.

    Args:
        config: The settings.
        folder: Where fingerprints of the data go; None: nowhere. A run takes seconds.
        data_dir: Not used: the data are computed.

    Returns:
        Arrays of shape (seeds, steps, layers) for ``cosine``, ``difference`` and ``residual``, see
        ``compare``; (seeds, steps) for ``loss`` and ``target_linearity`` of X̃; ``direction``
        (seeds, steps, 2), see ``unroll``; ``gram`` (seeds, steps + 1, 2, 2) of the first layer;
        ``covariance_change`` (seeds, steps, 2, 2), X̃ᵀX̃ − XᵀX; ``input_target_linearity`` of X ();
        ``angle`` (points,) and ``virtual_inputs`` (last_frame + 1, points, 2) of the first seed.

    Raises:
        ValueError: If training diverges.
    """
    del data_dir
    data = swiss_roll(config.points)
    claim_data(folder, {"x": data.x, "y": data.y})
    arrays = {name: np.array(values) for name, values in _run(config, data.x, data.y).items()}
    if not all(np.isfinite(arrays[name]).all() for name in ("loss", "gram")):
        raise ValueError(
            f"learning_rate is {config.learning_rate}, with which training diverges: "
            "wanted a smaller one"
        )
    drawn = arrays["virtual_inputs"][0, : config.last_frame + 1].astype(np.float32)
    arrays |= {"virtual_inputs": drawn, "angle": data.y[:, 0]}
    return arrays, {"data": data.source}


@in_float64
def _run(config: Config, x: np.ndarray, y: np.ndarray) -> dict[str, Array]:
    x64, y64 = jnp.asarray(x, jnp.float64), jnp.asarray(y, jnp.float64)

    def one(seed: Array, x: Array, y: Array) -> dict[str, Array]:
        params = Network(config.width).init(jax.random.key(seed), x[:1])
        trained = train(params, x, y, config)
        virtual = unroll(x, y, trained.pop("input_gradients"), config.scale)
        return {"gram": jax.vmap(weight_gram)(trained.pop("kernel")), **trained, **virtual}

    mesh = mesh_for(config.seeds)
    every = jax.jit(over_runs(one, execution="vmap", shared=(1, 2), mesh=mesh))
    seeds = every(jnp.arange(config.seeds), x64, y64)
    return {**seeds, "input_target_linearity": target_linearity(moments(x64, y64))}


@in_float64
def train(params: PyTree, x: Array, y: Array, config: Config) -> dict[str, Array]:
    """Full-batch gradient descent on the mean squared error, in float64.

    Args:
        params: Of ``Network``.
        x: Inputs (n, 2).
        y: Targets (n, 1).
        config: The width, learning rate and steps.

    Returns:
        Before each step ``loss`` (steps,) and ``input_gradients`` (steps, n, 2), ∇_X L; the first
        layer's ``kernel`` (steps + 1, 2, width) before each step and at the end; and for each step
        ``cosine``, ``difference``, ``residual`` (steps, layers), see ``compare``.
    """
    apply, rate = Network(config.width).apply, config.learning_rate
    params, x, y = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, y))

    def loss(outputs: Any) -> Array:
        return ((outputs - y) ** 2).mean()

    def step(params: PyTree, _: None) -> tuple[PyTree, dict[str, Array]]:
        passed = backward(apply, params, x, loss=loss)
        gradient = jax.grad(lambda p: loss(apply(p, x)))(params)
        after = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
        sums = reduce_gradients(passed, len(x))
        compared = [
            compare(before, new, sums[name], rate)
            for (name, before), new in zip(
                kernels(params).items(), kernels(after).values(), strict=True
            )
        ]
        first, kernel = next(iter(kernels(params).items()))
        return after, {
            "loss": passed.loss,
            "kernel": kernel,
            # Only the first layer reads X, so that its gradient is all of ∇_X L.
            "input_gradients": input_gradients(kernel, passed.output_gradients[first]),
            **{name: jnp.stack([layer[name] for layer in compared]) for name in compared[0]},
        }

    end, record = lax.scan(step, params, None, length=config.steps)
    last = next(iter(kernels(end).values()))
    return {**record, "kernel": jnp.concatenate([record["kernel"], last[None]])}


def kernels(params: PyTree) -> dict[str, Array]:
    """The kernels of ``Network`` by the names of their sites, from input to output."""
    layers = params["params"]
    return {f"params/Dense_{i}/kernel": layers[f"Dense_{i}"]["kernel"] for i in range(LAYERS)}


def compare(
    before: Array, after: Array, gradients: GradientMoments, learning_rate: float
) -> dict[str, Array]:
    """Compare the Gram's change ΔG in one step K → K − η∇_K L with the step's virtual covariance V.

    Returns:
        Scalars: ``cosine`` of the two; ``difference`` ‖ΔG − V‖/‖V‖; and ``residual``
        ‖ΔG − V − η²(∇_K L(∇_K L)ᵀ − gᵀg)‖/‖ΔG‖, which is 0 but for rounding.
    """
    change = gram_change(before, after)
    virtual = virtual_covariance(before, gradients, learning_rate)
    g = gradients.kernel_gradient
    second = learning_rate**2 * (g @ g.T - before @ gradients.output_products @ before.T)
    norm = jnp.linalg.norm
    return {
        "cosine": virtual_alignment(change, virtual),
        "difference": norm(change - virtual) / norm(virtual),
        "residual": norm(change - virtual - second) / norm(change),
    }


@in_float64
def unroll(x: Array, y: Array, gradients: Array, scale: float) -> dict[str, Array]:
    """The virtual update X̃_t = X − scale Σ_{s ≤ t} ∇_X L and what is linear in it.

    Args:
        x: X (n, 2).
        y: Targets (n, 1).
        gradients: ∇_X L of each step (steps, n, 2).
        scale: The factor of the gradients.

    Returns:
        ``virtual_inputs`` X̃ (steps, n, 2); the ``target_linearity`` (steps,) of its columns; the
        unit vector ``direction`` (steps, 2) in which X̃ has the greatest covariance with y; and
        ``covariance_change`` (steps, 2, 2), X̃ᵀX̃ − XᵀX.
    """
    x, y, gradients = (jnp.asarray(a, jnp.float64) for a in (x, y, gradients))
    virtual = x[None] - scale * jnp.cumsum(gradients, axis=0)

    def measured(features: Array) -> dict[str, Array]:
        m = moments(features, y)
        covariance = m.cross_scatter[:, 0]
        return {
            "target_linearity": target_linearity(m),
            "direction": covariance / jnp.linalg.norm(covariance),
            "covariance_change": features.T @ features - x.T @ x,
        }

    return {"virtual_inputs": virtual, **jax.vmap(measured)(virtual)}
