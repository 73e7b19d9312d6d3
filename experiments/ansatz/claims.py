"""Where the ansatz and its rivals hold, where not, and where a high correlation says nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from ..shared.claims import Claim
from ..shared.statistics import paired
from . import REPLACEMENTS

if TYPE_CHECKING:
    from ..shared.results import Result

SAYS = {
    "after training the ansatz is significant": "WᵀW ∝ AGOP (2212.13881)",
    "the gradients are nearly a tight frame": "the ansatz says so (the note)",
    "the exponent is 1": "1 (2212.13881)",
    "no replaced kernel fits": "nothing of W is pinned down (the note)",
    "with weight decay FACT is nearer": "exact at rest (2507.05644)",
    "the alignment of": "all six align (2410.03006)",
}
"""What is said of the claims, by how they begin."""

ALIGNMENTS = {
    "rga_before": "hhᵀ and ggᵀ",
    "rwa_before": "hhᵀ and WᵀW",
    "gwa_before": "ggᵀ and WᵀW",
    "rga_after": "zzᵀ and δδᵀ",
    "rwa_after": "zzᵀ and WWᵀ",
    "gwa_after": "δδᵀ and WWᵀ",
}
"""The six alignments of the representation hypothesis, before and after the layer."""

LEVEL = 0.05
HIGH = 0.8
"""A correlation that one would report."""


def trained(result: Result) -> xr.Dataset:
    """The networks at the end of training."""
    return result.data.isel(epoch=-1)


def _decidable(result: Result) -> Result:
    """With NaN for every p where the least that so few rotations can give is not significant."""
    reached = xr.DataArray(1 / (result.config.rotations + 1) <= LEVEL)
    p = result.data["p"].where(reached)
    return dataclasses.replace(result, data=result.data.assign(p=p))


def check(result: Result) -> list[Claim]:
    """Check what the ansatz, the note on it and its rivals say, layer by layer.

    A claim holds if it is true of at least 95 % of the layers of every seed, and fails if it is
    true of less than half of a seed's; in between it is undecided. Significant means p ≤ 0.05 under
    rotations, of which 19 or more are needed to decide it.

    1. After training the ansatz is significant. Before training it is so no more often than by
       chance: the 95 % interval of the share of such layers, over seeds, starts at or below 5 % and
       ends below 10 %. The claim fails if the interval lies above 5 %.
    2. A correlation of at least 0.8 is significant, in all layers before and after training.
    3. The gradients at the pre-activations are nearly a tight frame (cosine at least 0.9 on the
       range of W), and training brings them nearer.
    4. The exponent of the ansatz is 1 within a tenth.
    5. Other kernels in the place of W have a lower correlation, so that the ansatz pins W down.
    6. Without the activation's derivative the correlation is lower.
    7. The leading right singular vectors capture 95 % of what the AGOP's eigenvectors do.
    8. Reweighted by W, directions influence the outputs more alike than those of the input do.
    9. FACT is nearer to WᵀW than the AGOP is: for SGD with the largest weight decay, if positive.
    10. Each of the six alignments is significant after training.
    11. W has full rank.
    """
    result = _decidable(result)
    data, end = result.data, trained(result)
    start = data.isel(epoch=0)
    nfa, p = (data[name].sel(form="nfa", drop=True) for name in ("alignment", "p"))
    iso = data["range_isotropy"]
    high = p.where(nfa >= HIGH)
    after = nfa.isel(epoch=-1)
    others, plain = end["replaced"].max("replacement"), end["nfa_without_derivative"]
    influence = end["influence_outputs"] > end["influence_inputs"]
    claims = [
        _claim("after training the ansatz is significant", p.isel(epoch=-1) <= LEVEL, p, -1),
        _at_chance("before training the ansatz is significant by chance alone", p.isel(epoch=0)),
        _claim("a correlation of 0.8 is significant", high <= LEVEL, high),
        _claim("the gradients are nearly a tight frame", iso.isel(epoch=-1) >= 0.9, iso, -1),
        _claim(
            "training makes the gradients more isotropic",
            iso.isel(epoch=-1) > iso.isel(epoch=0),
            iso,
            -1,
        ),
        _claim("the exponent is 1", abs(end["exponent"] - 1) <= 0.1, end["exponent"]),
        _claim("no replaced kernel fits the ansatz as well", after > others, _where(after, others)),
        _claim("the activation's derivative matters", after > plain, _where(after, plain)),
        _claim("singular vectors capture the AGOP", end["ky_fan"] >= 0.95, end["ky_fan"]),
        _claim("reweighted directions have like influence", influence, end["influence_outputs"]),
        _fact_claim(result),
        *(
            _claim(
                f"the alignment of {pair} is significant",
                end["p"].sel(form=form) <= LEVEL,
                _where(end["p"], end["alignment"]).sel(form=form),
            )
            for form, pair in ALIGNMENTS.items()
        ),
        _claim("W has full rank", end["rank"] >= start["rank"], end["rank"]),
    ]
    return claims


def _claim(
    statement: str, true: xr.DataArray, shown: xr.DataArray, epoch: int | None = None
) -> Claim:
    """By the share of the layers of each seed in which something is true.

    Args:
        statement: The claim.
        true: Truth values of layers; those where ``shown`` is NaN do not count.
        shown: The values that the evidence gives the quartiles of.
        epoch: Which entry of ``shown`` is meant, if it has epochs.
    """
    shown = shown if epoch is None else shown.isel(epoch=epoch)
    counted = shown.notnull() & true.notnull()
    dims = [dim for dim in true.dims if dim != "seed"]
    shares = (true & counted).sum(dims) / counted.sum(dims)
    if not counted.any():
        return Claim(statement, None, "no layer")
    low, middle, high = shown.where(counted).quantile([0.25, 0.5, 0.75]).values
    share, total = float((true & counted).sum() / counted.sum()), int(counted.sum())
    holds = True if shares.min() >= 0.95 else False if shares.min() < 0.5 else None
    values = f"median {middle:.3f}, quartiles {low:.3f} and {high:.3f}"
    return Claim(statement, holds, f"{share:.1%} of {total} layers; {values}")


def _at_chance(statement: str, p: xr.DataArray) -> Claim:
    """By the share of significant layers, over seeds: layers that start alike count once a seed."""
    dims = [dim for dim in p.dims if dim != "seed"]
    shares = (p <= LEVEL).where(p.notnull()).mean(dims).dropna("seed")
    if len(shares) < 2:
        return Claim(statement, None, "no layer")
    found = paired(shares, np.zeros(len(shares)))
    low, high = max(found.low, 0), min(found.high, 1)
    holds = False if low > LEVEL else True if high < 2 * LEVEL else None
    evidence = f"significant in {found.mean:.1%} [{low:.1%}, {high:.1%}] of {p.count():d} layers"
    return Claim(statement, holds, evidence)


def _where(other: xr.DataArray, shown: xr.DataArray) -> xr.DataArray:
    """``shown`` where ``other`` is known: a correlation with J = 0 is NaN, as are its p."""
    return shown.where(other.notnull())


def _fact_claim(result: Result) -> Claim:
    """FACT against the ansatz where it is a theorem: SGD's coupled decay, the largest one."""
    settings = result.config.settings()
    coupled = [name for name, setting in settings.items() if setting.optimizer == "sgd"]
    decay = max(result.config.weight_decays)
    end = trained(result).sel(weight_decay=decay, setting=coupled)["alignment"].where(decay > 0)
    fact, nfa = (end.sel(form=form, drop=True) for form in ("fact", "nfa"))
    return _claim("with weight decay FACT is nearer than the ansatz", fact > nfa, _where(nfa, fact))


def layers(result: Result) -> pd.DataFrame:
    """The tidy table: a row for each network and hidden layer.

    Its columns are the conditions, and each measure before (``_start``) and after training; of
    each form its ``alignment``, ``p`` and the null's mean and deviation.
    """
    columns = {}
    for name, values in result.data.data_vars.items():
        for epoch, suffix in ((0, "_start"), (-1, "")):
            at = values.isel(epoch=epoch, drop=True)
            extra = [dim for dim in ("form", "replacement", "direction") if dim in at.dims]
            for label in at[extra[0]].values if extra else [None]:
                one = at.sel({extra[0]: label}, drop=True) if extra else at
                key = str(name) if label is None else f"{name}_{label}"
                key = f"train_{key}" if key in ("loss", "accuracy") else key
                columns[key + suffix] = one
    frame = xr.Dataset(columns).to_dataframe().reset_index()
    frame = frame[frame["rank_start"].notna()]  # the rank of a network that diverged is NaN
    conditions = [dataclasses.asdict(setting) for setting in result.config.settings().values()]
    of_setting = pd.DataFrame(conditions).assign(setting=list(result.config.variations))
    return of_setting.merge(frame, on="setting").reset_index(drop=True)


def table(result: Result) -> str:
    """Medians over the layers of each setting after training."""
    end = trained(_decidable(result))
    nfa = end.sel(form="nfa")
    dims = ["init_scale", "weight_decay", "seed", "layer"]
    heads = ("setting", "networks", "accuracy", "NFA", "null", "p≤.05", "FACT", "iso.", "α", "R²")
    lines = ["".join(f"{head:>10}" if i else f"{head:<40}" for i, head in enumerate(heads))]
    lines[0] += "".join(f"{name:>10}" for name in REPLACEMENTS)
    shown = {
        "accuracy": end["accuracy"].median(dims[:3]),
        "NFA": nfa["alignment"].median(dims),
        "null": nfa["null_mean"].median(dims),
        "p": (nfa["p"] <= LEVEL).where(nfa["p"].notnull()).mean(dims),
        "FACT": end["alignment"].sel(form="fact").median(dims),
        "isotropy": end["range_isotropy"].median(dims),
        "exponent": end["exponent"].median(dims),
        "determination": end["determination"].median(dims),
        **{how: end["replaced"].sel(replacement=how).median(dims) for how in REPLACEMENTS},
    }
    networks = int(np.prod([end.sizes[dim] for dim in dims[:3]]))
    for setting in end["setting"].values:
        values = "".join(f"{float(one.sel(setting=setting)):>10.3f}" for one in shown.values())
        lines.append(f"{setting:<40}{networks:>10}{values}")
    return "\n".join(lines)
