"""Draw the ansatz and its rivals against their nulls, isotropy, exponents, replaced weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..shared.drawing import BLUE, GREEN, ORANGE, PURPLE, VERMILION, legend_below, tidy
from . import FORMS, REPLACEMENTS
from .claims import LEVEL, layers, trained

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..shared.results import Result

LABELS = {
    "nfa": "NFA\nWᵀW, AGOP",
    "fact": "FACT\nWᵀW, −Σgxᵀ",
    "rga_before": "hhᵀ, ggᵀ",
    "rwa_before": "hhᵀ, WᵀW",
    "gwa_before": "ggᵀ, WᵀW",
    "rga_after": "zzᵀ, δδᵀ",
    "rwa_after": "zzᵀ, WWᵀ",
    "gwa_after": "δδᵀ, WWᵀ",
}
GREY = "0.55"


def plot(result: Result) -> Figure:
    """Alignments against their nulls above; isotropy, exponents and replaced weights below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    above, below = halves[0].subplots(), halves[1].subplots(1, 3)
    _forms(above, result.data)
    _isotropy(below[0], result.data)
    _exponents(below[1], result.data)
    _replaced(below[2], result.data)
    legend_below(halves[0], [above])
    legend_below(halves[1], below)
    networks = int(np.prod([result.data.sizes[dim] for dim in result.data["accuracy"].dims[:4]]))
    figure.suptitle(
        f"{networks} networks, all hidden layers: medians, quartiles, 5 to 95 %", fontsize=9
    )
    return figure


def _spread(axes: Axes, x: float, values: Any, color: str, marker: str = "o", **style: Any) -> None:
    """Median, quartiles (thick) and 5 to 95 % (thin) of all values."""
    values = np.asarray(values, float).reshape(-1)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, first, middle, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    axes.plot([x, x], [low, high], color=color, lw=0.9, zorder=1)
    axes.plot([x, x], [first, third], color=color, lw=3, solid_capstyle="butt", zorder=1)
    axes.plot([x], [middle], marker, color=color, ms=5, mec="white", mew=0.7, ls="", **style)


def _forms(axes: Axes, data: xr.Dataset) -> None:
    for i, form in enumerate(FORMS):
        one, first = data.sel(form=form), i == 0
        for shift, name, epoch, color, label in (
            (-0.27, "null_mean", 0, "0.8", "null before"),
            (-0.09, "alignment", 0, GREY, "before training"),
            (0.09, "null_mean", -1, ORANGE, "null after (J, δ or one side turned at random)"),
            (0.27, "alignment", -1, BLUE, "after training"),
        ):
            values = one[name].isel(epoch=epoch)
            _spread(axes, i + shift, values, color, label=label if first else None)
        significant = (one["p"].isel(epoch=-1) <= LEVEL).sum() / one["p"].isel(epoch=-1).count()
        axes.text(i, 1.06, f"{float(significant):.0%}", ha="center", fontsize=7, color=BLUE)
    axes.text(-0.62, 1.06, "p ≤ .05:", ha="right", fontsize=7, color=BLUE)
    axes.axhline(0, color="0.3", lw=0.6)
    axes.set_xticks(range(len(FORMS)), [LABELS[form] for form in FORMS])
    axes.set_xlim(-0.6, len(FORMS) - 0.4)
    axes.set_ylim(None, 1.02)
    axes.set_ylabel("cosine")
    tidy(axes)


def _isotropy(axes: Axes, data: xr.Dataset) -> None:
    names = {
        "isotropy": "cos\n(J, I)",
        "range_isotropy": "on\nran W",
        "tight_frame": "L2\ndist.",
        "influence_inputs": "input\nsteps",
        "influence_outputs": "after\nW",
    }
    for i, name in enumerate(names):
        for epoch, color, shift in ((0, GREY, -0.15), (-1, BLUE, 0.15)):
            _spread(axes, i + shift, data[name].isel(epoch=epoch), color)
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.set_ylim(0, 1.02)
    tidy(axes, title="isotropy at the pre-activations")


def _exponents(axes: Axes, data: xr.Dataset) -> None:
    bins = np.linspace(0, 1.5, 46)
    for epoch, color in ((0, GREY), (-1, BLUE)):
        values = data["exponent"].isel(epoch=epoch).values.reshape(-1)
        values = np.clip(values[np.isfinite(values)], bins[0], bins[-1])
        axes.hist(values, bins.tolist(), density=True, color=color, alpha=0.6)
    axes.axvline(1, color="0.2", lw=0.8, ls=":")
    axes.text(0.985, 0.97, "isotropy", rotation=90, transform=axes.get_xaxis_transform(),
              ha="right", va="top", fontsize=6)  # fmt: skip
    axes.set_xlabel("α of WᵀW ∝ AGOP$^α$")
    axes.set_ylabel("density of layers")
    tidy(axes, title="fitted exponent")


def _replaced(axes: Axes, data: xr.Dataset) -> None:
    _spread(axes, 0, data["alignment"].sel(form="nfa").isel(epoch=-1), BLUE)
    for i, how in enumerate(REPLACEMENTS, 1):
        _spread(axes, i, data["replaced"].sel(replacement=how).isel(epoch=-1), VERMILION)
    names = ["W", "turned", "same\ns. v.", "per-\nmuted", "other\nseed"]
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("cosine of WᵀW and AGOP")
    tidy(axes, title="replaced weights, J computed anew")


def conditions(result: Result) -> Figure:
    """Medians of all forms in each setting after training; where the median p > 0.05, in grey."""
    from matplotlib.figure import Figure

    end = trained(result)
    dims = ["init_scale", "weight_decay", "seed", "layer"]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    columns = [
        *(
            (LABELS[form].split("\n")[0], end["alignment"].sel(form=form), end["p"].sel(form=form))
            for form in FORMS
        ),
        ("no deriv.", end["nfa_without_derivative"], None),
        ("cos(J, I)", end["range_isotropy"], None),
        ("α", end["exponent"], None),
    ]
    names = end["setting"].values
    values = np.array([column.median(dims).values for _, column, _ in columns]).T
    axes.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=1.3)
    for j, (_, _, p) in enumerate(columns):
        weak = np.zeros(len(names), bool) if p is None else p.median(dims).values > LEVEL
        for i in range(len(names)):
            color = "0.6" if weak[i] else "white" if values[i, j] > 0.8 else "black"
            text = f"{values[i, j]:.2f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5, color=color)
    axes.set_xticks(range(len(columns)), [name for name, _, _ in columns], rotation=35, ha="right")
    axes.set_yticks(range(len(names)), [name.replace(",", ", ") for name in names])
    axes.tick_params(labelsize=7, length=0)
    axes.set_title("medians over layers after training; grey figures: not significant", fontsize=8)
    return figure


def by_decay(result: Result) -> Figure:
    """NFA, its null, FACT and isotropy of SGD's networks by weight decay and initial scale."""
    from matplotlib.figure import Figure

    settings = result.config.settings().items()
    coupled = [name for name, setting in settings if setting.optimizer == "sgd"]
    end = trained(result).sel(setting=coupled)
    figure = Figure(figsize=(7.2, 2.5), layout="constrained")
    panels = figure.subplots(1, end.sizes["init_scale"], sharey=True, squeeze=False)[0]
    shown = {
        "NFA": (end["alignment"].sel(form="nfa"), BLUE),
        "its null": (end["null_mean"].sel(form="nfa"), ORANGE),
        "FACT": (end["alignment"].sel(form="fact"), VERMILION),
        "cos(J, I) on range(W)": (end["range_isotropy"], GREEN),
        "overlap of the first singular vector": (end["overlap"].isel(direction=0), PURPLE),
    }
    for axes, scale in zip(panels, end["init_scale"].values, strict=True):
        for k, (label, (values, color)) in enumerate(shown.items()):
            for i, decay in enumerate(end["weight_decay"].values):
                at = values.sel(init_scale=scale, weight_decay=decay)
                _spread(axes, i + 0.15 * (k - 2), at, color, label=label if i == 0 else None)
        axes.axhline(0, color="0.3", lw=0.6)
        decays = [f"{decay:g}" for decay in end["weight_decay"].values]
        axes.set_xticks(range(len(decays)), decays)
        axes.set_xlabel("weight decay λ")
        tidy(axes, title=f"initial scale {scale:g}")
    panels[0].set_ylim(None, 1.02)
    panels[0].set_ylabel("cosine")
    legend_below(figure, panels[:1])
    return figure


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The further pictures, and the tidy table."""

    def picture(draw: Callable[[Result], Figure]) -> Callable[[IO[bytes]], None]:
        return lambda file: draw(result).savefig(file, format="png", dpi=200)

    return {
        "conditions.png": picture(conditions),
        "decay.png": picture(by_decay),
        "layers.parquet": lambda file: layers(result).to_parquet(file),
    }
