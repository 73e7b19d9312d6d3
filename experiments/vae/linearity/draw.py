"""Draw figure 10: curves by epoch, and decoded images below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...shared.drawing import band, entitle, legend_below, tidy
from ...shared.text import over_seeds
from ..draw import PITCH, beta_styles, few, tile, tiled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...shared.results import Result

IMAGES = 2


def plot(result: Result) -> Figure:
    """Reconstruction error, target linearity and surrogate by epoch; outputs by epoch and β."""
    from matplotlib.figure import Figure

    data, config = result.data, result.config
    figure = Figure(figsize=(7.2, 4.9), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    top, bottom = parts
    floor = data["noise_floor"].mean(skipna=False)
    titles = {
        "reconstruction_error": "reconstruction error",
        "target_linearity": f"target linearity of μ (noise {floor:.3f})",
        "surrogate": "surrogate",
    }
    panels = top.subplots(1, 3)
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        _curves(axes, result, name)
        axes.set(xlabel="epoch", xlim=data["epoch"].values[[0, -1]])
        tidy(axes, title=title)
    legend_below(top, panels[:1])
    for image, axes in enumerate(bottom.subplots(1, IMAGES)):
        _outputs(axes, result, image)
    bottom.suptitle("a test image and its decoded mean, by epoch", fontsize=9)
    entitle(
        figure,
        f"{config.dataset}, VAE {config.depth}×{config.width}, {config.latent} latents, "
        f"{over_seeds(config.seeds)}",
    )
    return figure


def _curves(axes: Axes, result: Result, name: str) -> None:
    """A band for each β; all but target linearity on a logarithmic scale."""
    runs, log = result.data[name], name != "target_linearity"
    every = max(1, runs.sizes["epoch"] // 8)
    for beta, style in beta_styles(result.config.betas).items():
        of_beta, label = runs.sel(beta=beta), f"β = {beta:g}"
        band(axes, of_beta, log=log, label=label, lw=1.4, ms=3, markevery=every, **style)


def _outputs(axes: Axes, result: Result, image: int) -> None:
    """One image: a row is a β, a column an epoch; the image itself on the left."""
    data, betas = result.data.sel(seed=0), result.config.betas
    shape, chosen = data["image_shape"], few(data["epoch"], 6)
    middle = (len(betas) - 1) / 2 * PITCH
    tile(axes, data["shown"].isel(image=image), shape, 0, middle)
    axes.text(0.5, middle - 0.08, "image", ha="center", va="bottom", fontsize=7)
    left, bottom = 2.9, len(betas) * PITCH
    for i, beta in enumerate(betas):
        axes.text(left - 0.15, i * PITCH + 0.5, f"β {beta:g}", ha="right", va="center", fontsize=7)
        for j, epoch in enumerate(chosen):
            decoded = data["decoded"].sel(beta=beta, epoch=epoch).isel(image=image)
            tile(axes, decoded, shape, left + j * PITCH, i * PITCH)
    for j, epoch in enumerate(chosen):
        axes.text(left + j * PITCH + 0.5, bottom, str(epoch), ha="center", va="top", fontsize=7)
    tiled(axes, 0, left + len(chosen) * PITCH, bottom + 0.7)
