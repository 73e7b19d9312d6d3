"""Figure 1: the virtual update unrolls the swiss roll, with the Gram's contours.

The paper trains a 2-32-32-1 network (exact GELU, no bias in the first layer, PyTorch's
initialisation) on 1000 points of a swiss roll seen along its axis, inputs and angle in [0, 1], by
100 steps of full-batch gradient descent on the mean squared error at learning rate η = 0.05. Frame
t shows X̃ = X − 700 Σ_{s ≤ t} ∇_X L, with the input gradients of steps 0 to t: the virtual update of
these steps, 700/η = 14 000 times magnified, on level lines of the first layer's Gram after t steps.

Where this differs. The paper scales each frame's columns to [0, 1], which turns directions; here a
frame is centred and divided by one number, the root of its mean square radius, so that the points
and the level lines have true angles. A second row shows the change of the Gram, since the Gram
itself moves by 1 % or so and looks the same in all frames. All is in float64 and over several
seeds, of which the first is drawn. From the paper's own initial weights the run gives the paper's
numbers (``tests/test_fig01.py``).

What the paper states and does not show is the second picture: the cosine of the Gram's change with
the virtual covariance, ``X̃ᵀX̃ − XᵀX`` at the learning rate itself, at every step and in every
layer, and their difference, which for gradient descent is η²(∇_K L(∇_K L)ᵀ − gᵀg) exactly.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.fig01_drawing import extras, plot
from experiments.framework import Claim, Result, check_least, check_positive
from gramlin_jax import moments, target_linearity, weight_gram
from gramlin_jax._moments.gradients import GradientMoments, backward, reduce_gradients
from gramlin_jax.data import swiss_roll
from gramlin_jax.metrics.virtual import (
    gram_change,
    input_gradients,
    virtual_alignment,
    virtual_covariance,
)
from gramlin_jax.models.initializers import torch_bias, torch_kernel
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

__all__ = ["PRESETS", "check", "extras", "plot", "run", "table"]

LAYERS = 3


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        points: Points of the roll.
        width: Units of each of the two hidden layers.
        steps: Steps of full-batch gradient descent.
        scale: What the summed input gradients are multiplied by in X̃.
        last_frame: The last step that is drawn.
        frames: Pictures in the row, evenly spread from step 0 to ``last_frame``.
        seeds: Initialisations; the first is drawn.
    """

    points: int = 1000
    width: int = 32
    learning_rate: float = 0.05
    steps: int = 100
    scale: float = 700.0
    last_frame: int = 50
    frames: int = 6
    seeds: int = 5

    def __post_init__(self) -> None:
        least = {"points": 2, "width": 1, "steps": 2, "last_frame": 1, "frames": 2, "seeds": 1}
        check_least(self, least)
        check_positive(self, "learning_rate", "scale")
        if self.last_frame >= self.steps:
            raise ValueError(
                f"last_frame is {self.last_frame} with {self.steps} steps: wanted less than steps"
            )


PRESETS = {
    "smoke": Config(points=200, width=8, steps=12, last_frame=6, frames=3, seeds=2),
    "default": Config(),
    "paper": Config(),
}


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


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train all seeds in one program and follow the virtual update along the way.

    Args:
        config: The settings.
        folder: Not used: a run takes seconds.
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
    del folder, data_dir
    data = swiss_roll(config.points)
    arrays = {name: np.array(values) for name, values in _run(config, data.x, data.y).items()}
    if not all(np.isfinite(arrays[name]).all() for name in ("loss", "gram")):
        raise ValueError(
            f"learning_rate is {config.learning_rate}: training diverges; pass a smaller one"
        )
    drawn = arrays["virtual_inputs"][0, : config.last_frame + 1].astype(np.float32)
    arrays |= {"virtual_inputs": drawn, "angle": data.y[:, 0]}
    return Result(config, arrays, {"data": data.source})


@in_float64
def _run(config: Config, x: np.ndarray, y: np.ndarray) -> dict[str, Array]:
    x64, y64 = jnp.asarray(x, jnp.float64), jnp.asarray(y, jnp.float64)

    def one(seed: Array, x: Array, y: Array) -> dict[str, Array]:
        params = Network(config.width).init(jax.random.key(seed), x[:1])
        trained = train(params, x, y, config)
        virtual = unroll(x, y, trained.pop("input_gradients"), config.scale)
        return {"gram": jax.vmap(weight_gram)(trained.pop("kernel")), **trained, **virtual}

    seeds = jax.jit(jax.vmap(one, (0, None, None)))(jnp.arange(config.seeds), x64, y64)
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
        ``kernel`` (steps + 1, 2, width) before each step and at the end; and of each step
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
    """The Gram's change ΔG in one step K → K − η∇_K L beside the virtual covariance V of it.

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


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure. A claim holds if it does in every seed.

    The target's direction is that in which X̃ of the last frame has the greatest covariance with
    the angle.

    1. The virtual update unrolls the roll: most of the angle (target linearity above 1/2) is linear
       in X̃ of the last frame, and more than in X.
    2. The Gram turns to the target's direction: the share of its trace along it is larger after
       the last frame than at the start.
    3. The Gram's contours show that direction: after the last frame the cosine of its leading
       eigenvector with it is 0.9 or more.
    4. The Gram's change is the virtual covariance: their cosine is 0.99 or more at every step, in
       every layer.
    """
    arrays = result.arrays
    linearity = arrays["target_linearity"][:, result.config.last_frame]
    before = float(arrays["input_target_linearity"])
    shares, axis, _ = _turning(result)
    least = arrays["cosine"].min(1)
    return [
        _claim(
            "the virtual update unrolls the roll",
            linearity > max(before, 0.5),
            f"target linearity {before:.3g} → {_spread(linearity)}, at least {linearity.min():.3g}",
        ),
        _claim(
            "the Gram turns to the target's direction",
            shares[:, 1] > shares[:, 0],
            f"share of its trace {_spread(shares[:, 0])} → {_spread(shares[:, 1])}, "
            f"gain {_spread(shares[:, 1] - shares[:, 0])}",
        ),
        _claim(
            "the Gram's leading direction is the target's",
            axis >= 0.9,
            f"cosine {', '.join(f'{value:.2f}' for value in axis)} by seed",
        ),
        _claim(
            "the Gram's change is the virtual covariance at every step",
            (least >= 0.99).all(1),
            f"least cosine by layer {', '.join(f'{value:.6f}' for value in least.min(0))}",
        ),
    ]


def _claim(statement: str, true: np.ndarray, evidence: str) -> Claim:
    """The claim of each seed, an entry of ``true``."""
    evidence = f"{np.count_nonzero(true)} of {true.size} seeds; {evidence}"
    return Claim(statement, bool(true.all()), evidence)


def _spread(values: np.ndarray) -> str:
    """Mean and deviation over seeds, the only axis; the deviation of a single seed is 0."""
    return f"{values.mean():.3g} ± {values.std(ddof=min(1, len(values) - 1)):.2g}"


def _turning(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the Gram and its change lie to the target's direction d of the last frame.

    Returns:
        Shares dᵀGd/tr G (seeds, 2) at the start and after the last frame; cosines |dᵀv| (seeds,)
        of the leading eigenvector of the Gram after the last frame, and of its change.
    """
    last, grams = result.config.last_frame, result.arrays["gram"]
    d = result.arrays["direction"][:, last]
    ends = grams[:, [0, last + 1]]
    shares = np.einsum("si,stij,sj->st", d, ends, d) / np.trace(ends, axis1=-2, axis2=-1)
    axes = [_leading(g) for g in (ends[:, 1], ends[:, 1] - ends[:, 0])]
    axis, change_axis = (np.abs((d * v).sum(-1)) for v in axes)
    return shares, axis, change_axis


def _leading(forms: np.ndarray) -> np.ndarray:
    """Eigenvectors (..., d) of the largest eigenvalue of symmetric (..., d, d)."""
    return np.linalg.eigh(forms)[1][..., -1]


def table(result: Result) -> str:
    """Each layer's Gram against its virtual covariance, then the unrolling, means over seeds."""
    arrays, last = result.arrays, result.config.last_frame
    lines = [
        f"{'layer':>5}{'least cosine':>16}{'median 1 − cosine':>20}{'largest difference':>20}"
        f"{'median':>10}{'identity residual':>20}"
    ]
    for layer in range(LAYERS):
        cosine, difference, residual = (
            arrays[name][..., layer] for name in ("cosine", "difference", "residual")
        )
        lines.append(
            f"{layer + 1:>5}{cosine.min():>16.8f}{np.median(1 - cosine):>20.2g}"
            f"{difference.max():>20.2g}{np.median(difference):>10.2g}{residual.max():>20.1g}"
        )
    shares, axis, change_axis = _turning(result)
    change = arrays["gram"][:, last + 1] - arrays["gram"][:, 0]
    moved = _norm(change) / _norm(arrays["gram"][:, 0])
    drawn = arrays["covariance_change"][:, last]
    likeness = (change * drawn).sum((1, 2)) / _norm(change) / _norm(drawn)
    linearity = arrays["target_linearity"][:, last]
    rows = {
        "loss, first → last step": _arrow(arrays["loss"][:, 0], arrays["loss"][:, -1]),
        f"target linearity, X → X̃ at step {last}": (
            f"{arrays['input_target_linearity']:.3g} → {_spread(linearity)}"
        ),
        "Gram of layer 1, relative change": _spread(moved),
        "share along the target's direction": _arrow(shares[:, 0], shares[:, 1]),
        "cosine of its leading direction": _spread(axis),
        "cosine of its change's direction": _spread(change_axis),
        "cosine of its change with X̃ᵀX̃ − XᵀX": _spread(likeness),
    }
    return "\n".join([*lines, *(f"{name:<40}{value}" for name, value in rows.items())])


def _norm(matrices: np.ndarray) -> np.ndarray:
    """Of the last two axes."""
    return np.linalg.norm(matrices, axis=(-2, -1))


def _arrow(before: np.ndarray, after: np.ndarray) -> str:
    return f"{_spread(before)} → {_spread(after)}"
