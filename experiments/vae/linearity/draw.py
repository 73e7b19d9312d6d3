"""Draw figure 10: curves by epoch, and decoded images below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...shared.drawing import WIDTH, band, legend_below, letters, sheet, tidy
from ...shared.text import named, over_seeds
from ..draw import PITCH, beta_styles, few, tile, tiled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...shared.results import Result

IMAGES, EPOCHS = 2, 6
LEFT, GAP = 2.6, 0.9  # room for the names of rows, and between images, in tiles
TITLES = {
    "reconstruction_error": "reconstruction error",
    "target_linearity": "target linearity of μ",
    "surrogate": "surrogate ‖XᵀμK‖²/k",
}


def plot(result: Result) -> Figure:
    """Reconstruction error, target linearity and surrogate by epoch; outputs by epoch and β."""
    data, config = result.data, result.config
    chosen = few(data["epoch"], EPOCHS)
    each = (len(chosen) + 1) * PITCH + 0.25
    wide = LEFT + IMAGES * each + (IMAGES - 1) * GAP
    high = len(config.betas) * PITCH + 1.1
    figure = sheet(2.1 + WIDTH * high / wide)
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.1, WIDTH * high / wide))
    top, bottom = parts
    panels = top.subplots(1, 3)
    for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
        _curves(axes, result, name)
        axes.set(xlabel="epoch", xlim=data["epoch"].values[[0, -1]])
        tidy(axes, title=title)
    letters(panels)
    legend_below(top, panels[:1])
    axes = bottom.subplots()
    for i, beta in enumerate(config.betas):
        axes.text(LEFT - 0.2, i * PITCH + 0.5, f"β = {beta:g}", ha="right", va="center", fontsize=7)
    axes.text(LEFT - 0.2, -0.1, "epoch", ha="right", va="bottom", fontsize=7)
    for image in range(IMAGES):
        _outputs(axes, result, image, chosen, LEFT + image * (each + GAP))
    tiled(axes, 0, wide, len(config.betas) * PITCH)
    axes.set_ylim(high - 1.1, -1.1)
    axes.text(0, -0.55, "(d)", va="center")
    return figure


def captions(result: Result) -> dict[str, str]:
    """What the figure shows."""
    config = result.config
    floor = result.data["noise_floor"].mean(skipna=False)
    text = (
        f"The code of a VAE as it trains on {named(config.dataset)}: (a) squared error of "
        "reconstructed test images; (b) target linearity of the code μ, with the images X as "
        f"targets (noise has {floor:.3f}); (c) its surrogate, with k centred pixels X and the "
        f"decoder's first kernel K; (d) {IMAGES} test images and their decoded means by epoch, for "
        f"the first seed. {config.depth} layers of {config.width}, {config.latent} latents; "
        f"{over_seeds(config.seeds)}, of logarithms in (a) and (c)."
    )
    return {"figure": text}


def _curves(axes: Axes, result: Result, name: str) -> None:
    """A band for each β; all but target linearity on a logarithmic scale."""
    runs, log = result.data[name], name != "target_linearity"
    every = max(1, runs.sizes["epoch"] // 8)
    for beta, style in beta_styles(result.config.betas).items():
        of_beta, label = runs.sel(beta=beta), f"β = {beta:g}"
        band(axes, of_beta, log=log, label=label, ms=3, markevery=every, **style)


def _outputs(axes: Axes, result: Result, image: int, chosen: list[int], left: float) -> None:
    """One image: a row is a β, a column an epoch; the image itself on the right, once."""
    data, betas = result.data.sel(seed=0), result.config.betas
    shape = data["image_shape"]
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7}
    for j, epoch in enumerate(chosen):
        axes.text(left + j * PITCH + 0.5, -0.1, str(epoch), **style)
        for i, beta in enumerate(betas):
            decoded = data["decoded"].sel(beta=beta, epoch=epoch).isel(image=image)
            tile(axes, decoded, shape, left + j * PITCH, i * PITCH)
    right, middle = left + len(chosen) * PITCH + 0.25, (len(betas) - 1) / 2 * PITCH
    axes.text(right + 0.5, middle - 0.1, "image", **style)
    tile(axes, data["shown"].isel(image=image), shape, right, middle)
