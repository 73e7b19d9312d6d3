"""Check the claims of figure 1 against the results, and print its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..shared.claims import Claim, in_every_seed
from ..shared.text import plus_minus

if TYPE_CHECKING:
    from ..shared.results import Result

FORM = ("input", "input_2")
"""Dimensions of a quadratic form on the inputs."""


SAYS = {
    "the virtual update unrolls the roll": "it unrolls",
    "the Gram turns to the target's direction": "it does",
    "the Gram's leading direction is the target's": "its contours show the direction",
    "the Gram's change is the virtual covariance": "equal, to first order",
}
"""What the paper says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the paper's claims of this figure. A claim holds if it does in every seed.

    The target's direction is the one in which X̃ of the last frame has the greatest covariance with
    the angle.

    1. The virtual update unrolls the roll: most of the angle (target linearity above 1/2) is linear
       in X̃ of the last frame, and more than in X.
    2. The Gram turns to the target's direction: its share of the trace is larger after the last
       frame than at the start.
    3. The Gram's contours show that direction: after the last frame the cosine of its leading
       eigenvector with it is above 0.9.
    4. The Gram's change is the virtual covariance: their cosine is above 0.99 at every step, in
       every layer.
    """
    data, last = result.data, result.config.last_frame
    before = float(data["input_target_linearity"])
    linearity = data["target_linearity"].sel(step=last)
    turned = turning(data, last)
    start, end, axis = (turned[name] for name in ("start_share", "end_share", "axis"))
    least = data["cosine"].min(["seed", "step"], skipna=False)
    return [
        in_every_seed(
            "the virtual update unrolls the roll",
            linearity - max(before, 0.5),
            f"target linearity {before:.3g} → {_spelled(linearity)}, "
            f"at least {linearity.min(skipna=False):.3g}",
        ),
        in_every_seed(
            "the Gram turns to the target's direction",
            end - start,
            f"share of its trace {_spelled(start)} → {_spelled(end)}, gain {_spelled(end - start)}",
        ),
        in_every_seed(
            "the Gram's leading direction is the target's",
            axis - 0.9,
            f"cosine {', '.join(f'{seed:.2f}' for seed in axis)} by seed",
        ),
        in_every_seed(
            "the Gram's change is the virtual covariance at every step",
            data["cosine"] - 0.99,
            f"least cosine by layer {', '.join(f'{layer:.6f}' for layer in least)}",
        ),
    ]


def turning(data: xr.Dataset, last: int) -> xr.Dataset:
    """How the Gram G and its change lie to the target's direction d at step ``last``.

    Returns:
        For each seed the shares dᵀGd/tr G at the start, ``start_share``, and after that step,
        ``end_share``; and the cosines |dᵀv| of the leading eigenvectors v of the Gram after it,
        ``axis``, and of its change until then, ``change_axis``.
    """
    d = data["direction"].sel(step=last)
    start, end = _grams(data, last)
    return xr.Dataset(
        {
            "start_share": _share(start, d),
            "end_share": _share(end, d),
            "axis": abs(xr.dot(_leading(end), d, dim="input")),
            "change_axis": abs(xr.dot(_leading(end - start), d, dim="input")),
        }
    )


def _grams(data: xr.Dataset, last: int) -> list[xr.DataArray]:
    """The Gram at the start and after step ``last``."""
    return [data["gram"].sel(state=state, drop=True) for state in (0, last + 1)]


def _share(forms: xr.DataArray, d: xr.DataArray) -> xr.DataArray:
    identity = xr.DataArray(np.eye(d.sizes["input"]), dims=FORM)
    along = xr.dot(forms, d, d.rename(input="input_2"), dim=FORM)
    share: xr.DataArray = along / xr.dot(forms, identity, dim=FORM)
    return share


def _leading(forms: xr.DataArray) -> xr.DataArray:
    """Unit eigenvectors of the largest eigenvalues."""
    found: xr.DataArray = xr.apply_ufunc(
        lambda values: np.linalg.eigh(values)[1][..., -1],
        forms,
        input_core_dims=[FORM],
        output_core_dims=[["input"]],
    )
    return found


def table(result: Result) -> str:
    """Each layer's Gram against its virtual covariance, then the unrolling, means over seeds."""
    lines = [
        f"{'layer':>5}{'least cosine':>16}{'median 1 − cosine':>20}{'largest difference':>20}"
        f"{'median':>10}{'identity residual':>20}"
    ]
    for layer in result.data["layer"].values:
        of = result.data.sel(layer=layer)
        cosine, difference, residual = (
            of[name].values for name in ("cosine", "difference", "residual")
        )
        lines.append(
            f"{layer:>5}{cosine.min():>16.8f}{np.median(1 - cosine):>20.2g}"
            f"{difference.max():>20.2g}{np.median(difference):>10.2g}{residual.max():>20.1g}"
        )
    rows = _rows(result.data, result.config.last_frame)
    return "\n".join([*lines, *(f"{name:<40}{value}" for name, value in rows.items())])


def _rows(data: xr.Dataset, last: int) -> dict[str, str]:
    """What the last frame shows, by name."""
    turned = turning(data, last)
    start, end = _grams(data, last)
    change, loss = end - start, data["loss"]
    drawn = data["covariance_change"].sel(step=last)
    likeness = xr.dot(change, drawn, dim=FORM) / _norm(change) / _norm(drawn)
    return {
        "loss, first → last step": _arrow(loss.isel(step=0), loss.isel(step=-1)),
        f"target linearity, X → X̃ at step {last}": (
            f"{data['input_target_linearity']:.3g} → "
            f"{_spelled(data['target_linearity'].sel(step=last))}"
        ),
        "Gram of layer 1, relative change": _spelled(_norm(change) / _norm(start)),
        "share along the target's direction": _arrow(turned["start_share"], turned["end_share"]),
        "cosine of its leading direction": _spelled(turned["axis"]),
        "cosine of its change's direction": _spelled(turned["change_axis"]),
        "cosine of its change with X̃ᵀX̃ − XᵀX": _spelled(likeness),
    }


def _norm(forms: xr.DataArray) -> xr.DataArray:
    return xr.dot(forms, forms, dim=FORM) ** 0.5


def _arrow(before: xr.DataArray, after: xr.DataArray) -> str:
    return f"{_spelled(before)} → {_spelled(after)}"


def _spelled(runs: xr.DataArray) -> str:
    return plus_minus(runs, ".3g", ".2g")
