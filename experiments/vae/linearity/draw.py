"""The picture of figure 10: curves by epoch, and decoded images below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.vae.draw import PITCH, band, beta_styles, few, tile, tiled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.shared.results import Result

IMAGES = 2


def plot(result: Result) -> Figure:
    """Reconstruction error, target linearity and surrogate by epoch; outputs by epoch and β."""
    from matplotlib.figure import Figure

    arrays, config = result.arrays, result.config
    figure = Figure(figsize=(7.2, 4.9), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    top, bottom = parts
    panels = top.subplots(1, 3)
    epochs = arrays["epochs"]
    for i, style in enumerate(beta_styles(config.betas)):
        band(panels[0], epochs, arrays["reconstruction_error"][i], style, log=True)
        band(panels[1], epochs, arrays["target_linearity"][i], style)
        band(panels[2], epochs, arrays["surrogate"][i], style, log=True)
    floor = arrays["noise_floor"].mean()
    names = "reconstruction error", f"target linearity of μ (noise {floor:.3f})", "surrogate"
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_xlim(epochs[0], epochs[-1])
        axes.grid(alpha=0.25, lw=0.5)
        axes.tick_params(labelsize=7, which="both")
    handles, labels = panels[1].get_legend_handles_labels()
    top.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        fontsize=8,
    )
    chosen = few(len(epochs), 6)
    for image, axes in enumerate(bottom.subplots(1, IMAGES)):
        _outputs(axes, result, image, chosen)
    bottom.suptitle("a test image and its decoded mean, by epoch", fontsize=9)
    figure.suptitle(
        f"{config.dataset}, VAE {config.depth}×{config.width}, {config.latent} latents, "
        f"mean ± deviation of {config.seeds} seeds",
        fontsize=9,
    )
    return figure


def _outputs(axes: Axes, result: Result, image: int, chosen: list[int]) -> None:
    """One image: a row is a β, a column an epoch; the image itself on the left."""
    arrays, betas = result.arrays, result.config.betas
    shape: np.ndarray = arrays["image_shape"]
    middle = (len(betas) - 1) / 2 * PITCH
    tile(axes, arrays["shown"][image], shape, 0, middle)
    axes.text(0.5, middle - 0.08, "image", ha="center", va="bottom", fontsize=7)
    left = 2.9
    for i, beta in enumerate(betas):
        axes.text(left - 0.15, i * PITCH + 0.5, f"β {beta:g}", ha="right", va="center", fontsize=7)
        for j, epoch in enumerate(chosen):
            tile(axes, arrays["decoded"][i, 0, epoch, image], shape, left + j * PITCH, i * PITCH)
    bottom = len(betas) * PITCH
    for j, epoch in enumerate(chosen):
        number = arrays["epochs"][epoch]
        axes.text(left + j * PITCH + 0.5, bottom, number, ha="center", va="top", fontsize=7)
    tiled(axes, 0, left + len(chosen) * PITCH, bottom + 0.7)
