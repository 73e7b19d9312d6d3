"""``Forecast``: what ``measure`` will sum and what that costs, before anything runs."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax

from gramlin_jax._measure.batch import Losses, summing
from gramlin_jax._measure.plan import Plan, first_of, projections_of
from gramlin_jax._measure.stream import Batch
from gramlin_jax._measure.tables import html_table, text_table
from gramlin_jax._measure.tracing import Tracing
from gramlin_jax.metrics.layer_sums import Need

if TYPE_CHECKING:
    from gramlin_jax.taps import Site


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What is summed at a layer.

    Attributes:
        sums: Names and shapes of the sums.
        bytes: Of them, whatever the number of samples.
        flops: Floating-point operations for each sample.
    """

    sums: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int
    flops: float


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What ``measure(..., dry_run=True)`` returns; ``print`` shows a line for each layer.

    Operations are those of matrix products, 2 for each multiplication and addition: of the layer,
    forward and backward, and of its sums. What lies between the layers is not counted.

    Attributes:
        layers: By name.
        samples: Of the whole pass; None where the batches come from an iterable.
        notes: Layers whose features cannot be measured, with the reason. ``measure`` itself also
            tries out on the first batch whether rows follow the samples.
    """

    layers: dict[str, LayerCost]
    samples: int | None
    notes: tuple[tuple[str, str], ...]

    @property
    def bytes(self) -> int:
        """Of all sums."""
        return sum(layer.bytes for layer in self.layers.values())

    @property
    def flops(self) -> float:
        """For each sample."""
        return sum(layer.flops for layer in self.layers.values())

    def __repr__(self) -> str:
        return "\n".join([text_table(HEAD, self._cells()), *self._below()])

    def _repr_html_(self) -> str:
        return html_table(HEAD, self._cells(), self._below())

    def _cells(self) -> list[list[str]]:
        return [
            [
                name,
                ", ".join(f"{label} {'×'.join(map(str, shape))}" for label, shape in layer.sums),
                f"{layer.bytes / 1e6:.3g}",
                f"{layer.flops / 1e6:.3g}",
            ]
            for name, layer in self.layers.items()
        ]

    def _below(self) -> list[str]:
        total = f"{self.bytes / 1e6:.3g} MB of sums, {self.flops / 1e6:.3g} MFLOP a sample"
        if self.samples is not None:
            total += f", {self.samples * self.flops / 1e9:.3g} GFLOP for {self.samples} samples"
        return [total, *(f"{layer}: {note}" for layer, note in self.notes)]


HEAD = ("layer", "sums", "MB", "MFLOP/sample")


def forecast(
    tracing: Tracing,
    plan: Plan,
    losses: Losses,
    needs: frozenset[Need],
    probes: int | None,
    first: Batch,
    samples: int | None,
) -> Forecast:
    """Shapes and costs of the sums, from abstract values alone."""
    here, held = tracing.at(first.x)
    rows, axes = tuple(plan.rows.items()), tuple(plan.axes.items())
    sums = jax.eval_shape(
        summing(here, losses, plan.names, rows, axes, needs, probes),
        held,
        jax.eval_shape(lambda: projections_of(plan, 0)),
        jax.random.key(0),
        first,
    )
    pullbacks = 0
    if sums["jacobians"]:
        output = jax.eval_shape(lambda: here([*held, *jax.tree.leaves(first_of(first).x)])[0])
        selected = jax.eval_shape(losses.outputs, output) if losses.outputs else output
        pullbacks = probes or math.prod(selected.shape[1:])
    layers = {
        name: _cost(
            plan.traced.layers.sites[name],
            plan,
            {k: v.get(name) for k, v in sums.items()},
            pullbacks,
        )
        for name in plan.names
    }
    return Forecast(layers, samples, tuple(plan.skipped.items()))


def _cost(site: Site, plan: Plan, sums: dict[str, Any], pullbacks: int) -> LayerCost:
    parts = "moments", "gradients", "jacobians", "attention"
    features, gradients, jacobians, attention = (sums[part] for part in parts)
    named = {
        "HᵀH": features and features.feature_scatter,
        "HᵀY": features and features.cross_scatter,
        "∇L": gradients and gradients.kernel_sum,
        "ΔᵀΔ": gradients and gradients.output_sum,
        "Σ‖∇ℓ‖²": gradients and gradients.square_sum,
        "J": jacobians and jacobians.products,
        "ΣH(p)": attention and attention.entropy_sum,
    }
    shapes = tuple((label, a.shape) for label, a in named.items() if a is not None)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(sums))
    return LayerCost(shapes, size, _flops(site, plan, dict(shapes), pullbacks))


def _flops(site: Site, plan: Plan, shapes: dict[str, tuple[int, ...]], pullbacks: int) -> float:
    """Of the products at a layer, for one sample."""
    rows = math.prod(site.stack) * math.prod(site.rows) / plan.n
    product = 2 * rows * site.fan_in * site.fan_out  # 0 for a named activation
    total = product * (3 if "∇L" in shapes else 1)  # forward; to the inputs; to the kernel
    if "ΔᵀΔ" in shapes:
        total += 2 * rows * site.fan_out**2
    if "J" in shapes:  # each output, or probe, goes back to the inputs
        total += pullbacks * (product + 2 * rows * site.fan_out**2)
    if "Σ‖∇ℓ‖²" in shapes:  # products of positions
        positions = math.prod(site.rows) / plan.n
        total += 2 * rows * positions * (site.fan_in + site.fan_out)
    if "HᵀH" in shapes:
        how, (*layers, d, k) = plan.rows[site.name], shapes["HᵀY"]
        each = rows if how.rule == "tokens" else math.prod(layers)
        total += 2 * each * d * (d + k)
        total += 2 * each * how.width * d if how.width > d else 0  # the projection
    return total
