"""Draw the ansatz and its rivals against their nulls, isotropy, exponents, replaced weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..shared.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    legend_below,
    letters,
    sheet,
    tidy,
)
from ..shared.text import minus
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
    "rga_before": "hhᵀ,\nggᵀ",
    "rwa_before": "hhᵀ,\nWᵀW",
    "gwa_before": "ggᵀ,\nWᵀW",
    "rga_after": "zzᵀ,\nδδᵀ",
    "rwa_after": "zzᵀ,\nWWᵀ",
    "gwa_after": "δδᵀ,\nWWᵀ",
}
GREY = "0.55"


def plot(result: Result) -> Figure:
    """Alignments against their nulls above; isotropy, exponents and replaced weights below."""
    figure = sheet(5.4)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    above, below = halves[0].subplots(), halves[1].subplots(1, 3)
    _forms(above, result.data)
    _isotropy(below[0], result.data)
    _exponents(below[1], result.data)
    _replaced(below[2], result.data)
    legend_below(halves[0], [above])
    letters([above, *below])
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
        axes.text(i, 1.05, f"{float(significant):.0%}", ha="center", fontsize="small", color=BLUE)
    axes.axhline(0, color="0.3", lw=0.6)
    axes.set_xticks(range(len(FORMS)), [LABELS[form] for form in FORMS])
    axes.set_xlim(-0.6, len(FORMS) - 0.4)
    axes.set_ylim(None, 1.14)
    axes.set_ylabel("cosine")
    tidy(axes, title="alignments, and layers with p ≤ 0.05 after training")


def _isotropy(axes: Axes, data: xr.Dataset) -> None:
    names = {
        "isotropy": "cos\n(J, I)",
        "range_isotropy": "range\nof W",
        "tight_frame": "L2\ndist.",
        "influence_inputs": "input\nsteps",
        "influence_outputs": "after\nW",
    }
    for i, name in enumerate(names):
        for epoch, color, shift in ((0, GREY, -0.15), (-1, BLUE, 0.15)):
            _spread(axes, i + shift, data[name].isel(epoch=epoch), color)
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.set_ylim(0, 1.02)
    tidy(axes, title="isotropy")


def _exponents(axes: Axes, data: xr.Dataset) -> None:
    bins = np.linspace(0, 1.5, 46)
    for epoch, color in ((0, GREY), (-1, BLUE)):
        values = data["exponent"].isel(epoch=epoch).values.reshape(-1)
        values = np.clip(values[np.isfinite(values)], bins[0], bins[-1])
        axes.hist(values, bins.tolist(), density=True, color=color, alpha=0.6)
    axes.axvline(1, color="0.2", lw=0.8, ls=":")
    axes.text(0.985, 0.97, "isotropy", rotation=90, transform=axes.get_xaxis_transform(),
              ha="right", va="top", fontsize="small")  # fmt: skip
    axes.set_xlabel("α of WᵀW ∝ AGOP$^α$")
    axes.set_ylabel("density of layers")
    tidy(axes, title="exponent")


def _replaced(axes: Axes, data: xr.Dataset) -> None:
    _spread(axes, 0, data["alignment"].sel(form="nfa").isel(epoch=-1), BLUE)
    for i, how in enumerate(REPLACEMENTS, 1):
        _spread(axes, i, data["replaced"].sel(replacement=how).isel(epoch=-1), VERMILION)
    names = ["W", "turned", "same\ns. v.", "per-\nmuted", "other\nseed"]
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("cosine of WᵀW and AGOP")
    tidy(axes, title="W replaced")


def conditions(result: Result) -> Figure:
    """Medians of all forms in each setting after training; where the median p > 0.05, in grey."""
    end = trained(result)
    dims = ["init_scale", "weight_decay", "seed", "layer"]
    figure = sheet(3.9)
    axes = figure.subplots()
    columns = [
        *(
            (
                LABELS[form].partition("\n")[0]
                if form in ("nfa", "fact")
                else LABELS[form].replace("\n", " "),
                end["alignment"].sel(form=form),
                end["p"].sel(form=form),
            )
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
            text = minus(f"{values[i, j]:.2f}")
            axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color=color)
    axes.set_xticks(range(len(columns)), [name for name, _, _ in columns], rotation=35, ha="right")
    axes.set_yticks(range(len(names)), [name.replace(",", ", ") for name in names])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return figure


def by_decay(result: Result) -> Figure:
    """NFA, its null, FACT and isotropy of SGD's networks by weight decay and initial scale."""
    settings = result.config.settings().items()
    coupled = [name for name, setting in settings if setting.optimizer == "sgd"]
    end = trained(result).sel(setting=coupled)
    figure = sheet(2.6)
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
        tidy(axes, title=f"scale {scale:g}")
    panels[0].set_ylim(None, 1.02)
    panels[0].set_ylabel("cosine")
    letters(panels)
    legend_below(figure, panels[:1])
    return figure


def figures(result: Result) -> dict[str, Callable[[], Figure]]:
    """The further figures."""
    return {"conditions": lambda: conditions(result), "decay": lambda: by_decay(result)}


def captions(result: Result) -> dict[str, str]:
    """What the figures show."""
    sizes = result.data.sizes
    networks = int(np.prod([sizes[dim] for dim in result.data["accuracy"].dims[:4]]))
    return {
        "figure": (
            f"The neural feature ansatz (NFA) in all hidden layers of {networks} networks. "
            "(a) Cosines of the ansatz, its rivals and the six representation alignments, beside "
            "their nulls; above, the share of layers with p ≤ 0.05 after training. (b) Isotropy "
            "of the gradients at the pre-activations, on the whole space and on range(W), their "
            "distance from the nearest tight frame, and the evenness of finite steps before and "
            "after W. (c) The exponent α that fits WᵀW ∝ AGOP^α. (d) The cosine of the ansatz with "
            "W, and with other kernels in its place. Medians, quartiles (thick) and 5 to 95 % "
            "(thin); grey before training, blue after."
        ),
        "conditions": (
            "Medians over the layers of each setting after training. Grey numbers: the median p "
            "is above 0.05."
        ),
        "decay": (
            "Networks trained by SGD, by weight decay λ and initial scale: medians, quartiles "
            "(thick) and 5 to 95 % (thin) over layers."
        ),
    }


def extras(result: Result) -> dict[str, Callable[[IO[bytes]], None]]:
    """The tidy table."""
    return {"layers.parquet": lambda file: layers(result).to_parquet(file)}
