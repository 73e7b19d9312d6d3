"""Figure 8: a staircase function learnt by networks from rich to lazy.

The paper trains 10-w-w-1 networks (ReLU, no bias, weights N(0, 1/fan_in), outputs divided by √w) on
1000 points of y = x₁x₂x₃x₄ + x₁x₂x₃ + x₁x₂ + x₁ by full-batch gradient descent (mean squared error,
learning rate 0.01, 2000 steps) at widths w of 32, 128, 512 and 1024; the division by √w makes wide
networks lazy: their features hardly move. Here each seed has points of its own, since the loss
depends on them as much as on the weights. With ŷ the outputs and ŷ_OLS the ridge fit (0.01, no
intercept) of y on the last hidden features, it follows ‖y − ŷ_OLS‖, ‖ŷ_OLS − ŷ‖ and ‖y − ŷ‖.

Fits are solved in float64 by an eigendecomposition of the features' products, which is exact where
the float32 inverse of the paper's code is wrong: these products have condition numbers of 1e7 and
more with the ridge. From the paper's own initial weights the run gives the numbers of that code.

What the paper does not show: features of w ≥ n columns fit any target, so that there ‖y − ŷ_OLS‖
says nothing. Beside it stand the norm that pure noise of y's size would leave, ``noise_norm``, the
same fit on as many new points, and how far features have moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from experiments.curves import spelled
from experiments.fig08_drawing import final_losses, plot
from experiments.fig08_norms import Network, norms_measure, own_points
from experiments.fig08_published import PUBLISHED, published_setting
from experiments.framework import Claim, Result, check_least, check_positive
from gramlin_jax.data import staircase
from gramlin_jax.training import Fit, Hyper, fit, grid

if TYPE_CHECKING:
    from jaxtyping import Array

__all__ = ["PRESETS", "check", "plot", "run", "table"]


NEW = 10_000  # seeds of new points are those of the others and this


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        widths: Of both hidden layers.
        points: Points that are trained on, and as many new ones.
        dimension: Coordinates of a point, of which the target reads four.
        steps: Steps of full-batch gradient descent.
        ridge: Added to the diagonal of the features' products.
        measurements: Number of steps at which norms are measured, evenly spread from 0.
    """

    widths: tuple[int, ...] = (32, 128, 512)
    points: int = 1000
    dimension: int = 10
    learning_rate: float = 0.01
    steps: int = 2000
    ridge: float = 0.01
    measurements: int = 41
    seeds: int = 5

    def __post_init__(self) -> None:
        least = {"points": 2, "dimension": 4, "steps": 1, "measurements": 2, "seeds": 1}
        check_least(self, least)
        check_positive(self, "learning_rate", "ridge")
        widths = self.widths
        if len(widths) < 2 or any(a >= b for a, b in zip(widths, widths[1:], strict=False)):
            raise ValueError(f"widths is {widths}: wanted two or more, ascending")
        if widths[0] < 1:
            raise ValueError(f"widths is {widths}: wanted at least 1")


PRESETS = {
    "smoke": Config(widths=(4, 48), points=40, steps=6, measurements=3, seeds=2),
    "default": Config(),
    "paper": Config(widths=(32, 128, 512, 1024)),
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train each width, all seeds in one program, and follow the norms along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Not used: the data are computed.

    Returns:
        Arrays of shape (widths, seeds, measurements) for what ``norms_measure`` returns; and
        ``steps`` (measurements,), ``target_norm`` and ``new_target_norm`` (seeds,).
    """
    del data_dir
    seeds = range(config.seeds)
    data = [points(config, seeds), points(config, [NEW + seed for seed in seeds])]
    fits = []
    for width in config.widths:
        directory = None if folder is None else str(folder / "training" / str(width))
        fits.append(train(config, Network(width), data, directory))
    names = fits[0].measurements
    norms = {name: np.stack([found.measurements[name] for found in fits]) for name in names}
    sizes = {
        name: np.linalg.norm(y[..., 0].astype(float), axis=0)
        for name, (_, y) in zip(("target_norm", "new_target_norm"), data, strict=True)
    }
    execution = [found.execution for found in fits]
    return Result(
        config, {**norms, **sizes, "steps": fits[0].measured_at}, {"execution": execution}
    )


def points(config: Config, seeds: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, seeds, d) and targets (n, seeds, 1), other ones for each seed."""
    parts = [staircase(config.points, config.dimension, seed) for seed in seeds]
    return np.stack([part.x for part in parts], 1), np.stack([part.y for part in parts], 1)


def train(
    config: Config,
    network: Network,
    data: Sequence[tuple[np.ndarray, np.ndarray]],
    directory: str | None = None,
    init: Callable[[Array], Any] | None = None,
) -> Fit:
    """Full-batch gradient descent of one width, all seeds in one program.

    Args:
        config: Seeds, steps and what else there is.
        network: Of any width.
        data: What is trained on and new points, as ``points``.
        directory: Where checkpoints go.
        init: ``key -> params``; None: the network's own.
    """
    init = init or (lambda key: network.init(key, jnp.zeros((1, config.dimension))))
    return fit(
        init,
        squared_loss(network),
        optax.sgd(config.learning_rate),
        data[0],
        epochs=config.steps,
        sweep=grid(seed=range(config.seeds)),
        measure=norms_measure(network, config.ridge, init),
        measure_data=data,
        measure_at=np.linspace(0, config.steps, config.measurements).round().astype(int),
        directory=directory,
    )


def squared_loss(network: Network) -> Callable[..., Any]:
    """``loss`` of ``fit``: the mean squared error."""

    def loss(params: Any, batch: Any, key: Array, hyper: Hyper) -> Any:
        del key
        x, y = own_points(batch, hyper)
        return ((network.apply(params, x)[0] - y) ** 2).mean(), {}

    return loss


def check(result: Result) -> list[Claim]:
    """The paper's claims of this figure; one of orders holds if it does in every seed.

    1. The wider the network, the lazier: features move less.
    2. The wider, the higher the final loss.
    3. Rich features learn the target: at the smallest width ‖y − ŷ_OLS‖ falls over training.
    4. The wider, the smaller the share of ‖y − ŷ_OLS‖ that training takes away, where there are
       fewer features than points: more of them fit any target.
    5. The same on new points, which no number of features can fit without learning: all widths.
    6. The published final loss of each width is one that a further seed would give: within the 95 %
       prediction interval of the seeds, whose points and weights differ; only checked in the
       paper's setting.
    """
    arrays, config = result.arrays, result.config
    fits, new = (
        1 - arrays[name][..., -1] / arrays[name][..., 0]
        for name in ("target_fit", "new_target_fit")
    )
    few = sum(width < config.points for width in config.widths)
    change, losses = arrays["feature_change"][..., -1], final_losses(result)
    claims = [
        _ordered("the wider, the less features move", config, -change, change),
        _ordered("the wider, the higher the final loss", config, losses, losses),
        Claim(
            "features of the smallest width learn the target",
            bool((fits[0] > 0).all()),
            f"{np.count_nonzero(fits[0] > 0)} of {config.seeds} seeds; ‖y − ŷ_OLS‖ falls by the "
            f"share {spelled(fits[0])}",
        ),
        _ordered(
            "the wider, below n, the less the fit gains by training",
            config,
            -fits[:few],
            fits[:few],
        ),
        _ordered("the same on new points, at all widths", config, -new, new),
    ]
    return [*claims, _published_claim(config, losses)] if published_setting(config) else claims


def _ordered(statement: str, config: Config, rising: np.ndarray, shown: np.ndarray) -> Claim:
    """Does ``rising`` (widths, seeds) rise with the width in every seed?"""
    seeds = (np.diff(rising, axis=0) > 0).all(0)
    values = ", ".join(
        f"{width}: {spelled(of_seeds)}"
        for width, of_seeds in zip(config.widths, shown, strict=False)
    )
    holds = bool(seeds.all()) if len(rising) > 1 else None
    return Claim(statement, holds, f"{seeds.sum()} of {seeds.size} seeds; {values}")


def _published_claim(config: Config, losses: np.ndarray) -> Claim:
    rows = [(w, PUBLISHED[w], of) for w, of in zip(config.widths, losses, strict=True)]
    known = [(w, value, of.mean(), of.std(ddof=1)) for w, value, of in rows]
    reach = stats.t.ppf(0.975, config.seeds - 1) * (1 + 1 / config.seeds) ** 0.5
    near = [abs(value - mean) <= reach * deviation for _, value, mean, deviation in known]
    values = "; ".join(
        f"{w}: {value:.4f} published, {mean:.4f} ± {deviation:.4f}"
        for w, value, mean, deviation in known
    )
    evidence = f"{sum(near)} of {len(near)} widths; {values}"
    statement = "the published final losses are within the spread over points and weights"
    return Claim(statement, all(near), evidence)


def table(result: Result) -> str:
    """Each width before and after training, means and deviations over seeds."""
    arrays, config = result.arrays, result.config
    names = ("target_fit", "fit_output", "new_target_fit", "noise_norm")
    lines = [
        f"norm of y {spelled(arrays['target_norm'], 2)}, "
        f"of new points {spelled(arrays['new_target_norm'], 2)}",
        f"{'width':>6}{'final loss':>18}{'features move':>18}"
        + "".join(f"{name.replace('_', ' '):>30}" for name in names),
    ]
    for i, (width, losses) in enumerate(zip(config.widths, final_losses(result), strict=True)):
        cells = [spelled(losses, 4), spelled(arrays["feature_change"][i, :, -1])]
        ends = [(arrays[n][i, :, 0].mean(), spelled(arrays[n][i, :, -1], 2)) for n in names]
        lines.append(
            f"{width:>6}"
            + "".join(f"{cell:>18}" for cell in cells)
            + "".join(f"{f'{start:.2f} → {end}':>30}" for start, end in ends)
        )
    return "\n".join(lines)
