"""Check the tutorial's claims on latent dimensions against the results, and print the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..shared.claims import Claim, decided, in_every_seed
from ..shared.lost import at_chance, without
from ..shared.statistics import prediction_margin
from ..shared.text import listed, plus_minus
from . import published_setting

if TYPE_CHECKING:
    from ..shared.results import Result

PUBLISHED: dict[str, dict[str, Any]] = {
    "mlp": {"trained": 0.427, "resampled": 0.314, "alignment": (0.922, 0.875)},
    "cnn": {"trained": 0.580, "resampled": 0.360, "alignment": None},
}
"""The tutorial's numbers, of one run without a seed; the alignment is uncentred, on train images.

It also reads about 50 and 15 learned components off the spectra of the MLP's weights.
"""

LITTLE = 0.01
"""An accuracy that may be lost by clipping."""
ROUNDING = 1e-6
"""What makes "at most" of "less than": accuracies are float32."""


SAYS = {
    "training adds components": "in an MLP, about 50 and 15",
    "learned weight components alone": "next to nothing is lost",
    "trained networks are better aligned": "aligned",
    "learned activation components": "universal",
    "learned weight components are universal": "universal",
    "resampled networks keep half": "about two thirds are kept",
}
"""What the source says, by the beginnings of the claims."""


def check(result: Result) -> list[Claim]:
    """Check the tutorial's claims. They hold if they do in every seed.

    Pairs of which a network diverged or is at chance (``shared.lost``) decide nothing.

    1. Training adds components that stand out from noise, in both layers.
    2. The learned components alone, in either layer, lose at most 0.01 of accuracy.
    3. A number of activation components below a quarter of the width suffices for that.
    4. Two trained networks are better aligned on test images, centred, than two untrained ones.
    5. The learned components are universal: the leading eigenvectors, as many as components of the
       weights stand out, span a space that two trained networks share more than the baselines do,
       for activations and for weights.
    6. Resampled networks keep more than half of what training gains over chance.
    7. In the tutorial's setting, a further seed could have given each published number: it lies in
       the 95 % prediction interval of the seeds.
    """
    learnt = (result.data["test_accuracy"].isel(epoch=-1).notnull() & ~at_chance(result)).all(
        "pair"
    )
    result = without(result, ~learnt)
    data = result.data
    gained = data["significant"] - data["initial_significant"]
    end = data["test_accuracy"].sel(pair="first").isel(epoch=-1)
    alone = end - data["learned_alone"]
    needed = enough(data["activation_clipping"], end)
    widths = xr.DataArray(list(result.config.widths), {"layer": data["layer"]}, "layer")
    heldout = data["alignment"].sel(split="test", centring="centred")
    ahead = heldout.sel(kind="trained") - heldout.sel(kind="untrained")
    share = kept_share(result)
    claims = [
        in_every_seed(
            "training adds components that stand out from noise",
            gained,
            f"by layer {listed(data['significant'], 'layer', '.1f', '.1f')}, "
            f"before {listed(data['initial_significant'], 'layer', '.1f', '.1f')}",
        ),
        in_every_seed(
            f"learned weight components alone lose at most {LITTLE}",
            LITTLE + ROUNDING - alone,
            f"lost by layer {listed(alone, 'layer', '.3f', '.3f')}",
        ),
        in_every_seed(
            f"a quarter of the activation components lose at most {LITTLE}",
            (widths / 4 + ROUNDING - needed).where(end.notnull()),
            f"enough are {listed(needed, 'layer', '.0f', '.0f')} of {result.config.widths}",
        ),
        in_every_seed(
            "trained networks are better aligned than untrained ones (test, centred)",
            ahead,
            f"trained {listed(heldout.sel(kind='trained'), 'layer', '.3f', '.3f')}, "
            f"untrained {listed(heldout.sel(kind='untrained'), 'layer', '.3f', '.3f')}",
        ),
        *(_universal(data, of) for of in ("activation", "weight")),
        in_every_seed(
            "resampled networks keep half of what training gains over chance",
            share - 0.5,
            f"share {plus_minus(share, '.2f')}; accuracy {plus_minus(drawn(data), '.3f')}",
        ),
    ]
    return [*claims, *_published(result)] if published_setting(result.config) else claims


def drawn(data: xr.Dataset, variant: str = "all layers") -> xr.DataArray:
    """Mean accuracy of the networks drawn from each trained one (seed,)."""
    return data["resampled"].sel(variant=variant).mean("draw")


def kept_share(result: Result) -> xr.DataArray:
    """What resampling keeps of the accuracy beyond chance; (seed,)."""
    end = result.data["test_accuracy"].sel(pair="first").isel(epoch=-1)
    return (drawn(result.data) - guess(result)) / (end - guess(result))


def guess(result: Result) -> float:
    """The accuracy of guessing one of the classes; results of earlier versions have ten."""
    return 1 / float(result.info.get("num_classes", 10))


def enough(curves: xr.DataArray, end: xr.DataArray) -> xr.DataArray:
    """The smallest number of components from which on accuracy loses at most ``LITTLE``."""
    short = (end - curves > LITTLE + ROUNDING) & curves.notnull()
    last = curves["rank"].where(short).max("rank").fillna(0)
    return curves["rank"].where(curves["rank"] > last).min("rank")


def overlap(data: xr.Dataset, of: str) -> xr.DataArray:
    """What two leading spaces share, Σ cos²/r over r × r pairs, in [0, 1]; (seed, kind, layer).

    r is the number of significant components of the layer's weights, at least 1 and at most as many
    as the map has.
    """
    maps = data[f"{of}_stability"]
    size = maps.isel(kind=0).notnull().any("second").sum("first")
    number = np.minimum(data["significant"].clip(1), size)
    counts = xr.DataArray(np.arange(maps.sizes["first"]), dims="first")
    inside = (counts < number) & (counts.rename(first="second") < number)
    return (maps**2).where(inside).sum(["first", "second"]) / number


def _universal(data: xr.Dataset, of: str) -> Claim:
    shared = overlap(data, of)
    ahead = shared.sel(kind="trained") - shared.sel(kind=["untrained", "permuted"]).max("kind")
    shown = "; ".join(
        f"{kind} {listed(shared.sel(kind=kind), 'layer', '.2f', '.2f')}"
        for kind in shared["kind"].values
    )
    return in_every_seed(f"learned {of} components are universal", ahead, f"shared: {shown}")


def published_pairs(result: Result) -> dict[str, tuple[float, xr.DataArray]]:
    """Published numbers beside ours (seed,)."""
    data, known = result.data, PUBLISHED[result.config.network]
    end = data["test_accuracy"].isel(epoch=-1).sel(pair="first")
    pairs = {
        "accuracy": (known["trained"], end),
        "resampled accuracy": (known["resampled"], drawn(data)),
    }
    ours = data["alignment"].sel(kind="trained", split="train", centring="uncentred")
    for layer, value in zip(ours["layer"].values, known["alignment"] or (), strict=False):
        pairs[f"alignment of layer {layer}"] = value, ours.sel(layer=layer)
    return pairs


def _published(result: Result) -> list[Claim]:
    claims = []
    for name, (value, ours) in published_pairs(result).items():
        holds, evidence = decided(prediction_margin(value, ours)), plus_minus(ours)
        if holds is not None:
            side = "in" if holds else "outside of"
            evidence += f", and it lies {side} their 95 % prediction interval"
        statement = f"the published {name} is within the spread over seeds"
        claims.append(Claim(statement, holds, evidence, f"{value:.3f}"))
    return claims


def table(result: Result) -> str:
    """Accuracies, components, alignment with its baselines, and resampled networks."""
    data = result.data
    end = data["test_accuracy"].isel(epoch=-1)
    every = xr.DataArray(end.values.ravel(), dims="seed")
    lines = [f"test accuracy {plus_minus(every)}"]
    lines += [
        f"{name:<34}{_by_layer(values)}"
        for name, values in {
            "significant components": data["significant"],
            "accuracy with these alone": data["learned_alone"],
            "enough activation components": enough(
                data["activation_clipping"], end.sel(pair="first")
            ),
            "enough weight components": enough(data["weight_clipping"], end.sel(pair="first")),
        }.items()
    ]
    for kind in data["kind"].values:
        of = data["alignment"].sel(kind=kind)
        for split in of["split"].values:
            cells = "".join(
                f"{centring} {_by_layer(of.sel(split=split, centring=centring))}  "
                for centring in of["centring"].values
            )
            lines.append(f"alignment, {kind + ', ' + split:<23}{cells}")
        for name in ("cka", "debiased_cka"):
            lines.append(f"{name}, {kind:<22}{_by_layer(data[name].sel(kind=kind))}")
    for name in ("activation", "weight"):
        shared = overlap(data, name)
        for kind in shared["kind"].values:
            cells = _by_layer(shared.sel(kind=kind))
            lines.append(f"shared {name} space, {kind:<14}{cells}")
    for variant in data["variant"].values:
        lines.append(f"resampled, {variant:<22}{plus_minus(drawn(data, variant))}")
        if data.sizes["draw"] > 1:
            within = data["resampled"].sel(variant=variant).std("draw", ddof=1).mean()
            lines[-1] += f" (between draws {float(within):.3f})"
    return "\n".join(lines)


def _by_layer(runs: xr.DataArray) -> str:
    return listed(runs, "layer", ".3f", ".3f")
