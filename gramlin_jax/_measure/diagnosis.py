"""``diagnose``: what is wrong with the layers of a network, from what was measured of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gramlin_jax._measure.measurement import Measurement
from gramlin_jax._measure.symptoms import (
    CHECKS,
    FULL,
    MEMORISATION,
    Numbers,
    Symptom,
    before_zeros,
    full,
    incomparable,
    memorised,
    missing,
    not_finite,
    unknown,
    unmemorised,
)
from gramlin_jax._measure.tables import cell, html_table, text_table


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault of one layer.

    Attributes:
        kind: Which fault.
        layer: Where.
        step: When it was measured; None for a single measurement.
        value: The number that shows it.
        null: What that number is where nothing is wrong, or by chance.
        text: What the number is.
        remedy: What to do.
    """

    kind: str
    layer: str
    step: int | None
    value: float
    null: float
    text: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What ``diagnose`` found; ``print`` shows a table with the remedies, ``len`` counts.

    Attributes:
        findings: Faults, by kind and in the order of the layers.
        unchecked: Kinds that could not be looked for, with the reason.
    """

    findings: tuple[Finding, ...]
    unchecked: tuple[tuple[str, str], ...]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def to_json(self) -> str:
        """Findings and what was not checked, as JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    def __repr__(self) -> str:
        table = [text_table(HEAD, self._cells())] if self.findings else ["nothing is wrong"]
        return "\n".join([*table, *self._below()])

    def _repr_html_(self) -> str:
        return html_table(HEAD, self._cells(), self._below())

    def _cells(self) -> list[list[str]]:
        return [
            [f.layer, f.kind, "" if f.step is None else str(f.step), cell(f.value), cell(f.null)]
            for f in self.findings
        ]

    def _below(self) -> list[str]:
        texts = dict.fromkeys((f.kind, f.text, f.remedy) for f in self.findings)
        return [
            *(f"{kind}: {text}. To do: {remedy}" for kind, text, remedy in texts),
            *(f"not checked: {kind}, {reason}" for kind, reason in self.unchecked),
        ]


HEAD = ("layer", "finding", "step", "value", "null")
Watched = Measurement | Mapping[int, Measurement]


def diagnose(watched: Watched, *, heldout: Watched | None = None) -> Diagnosis:
    """Look for faults in the layers: what, where, by which number, and what to do.

    * *not finite*: values that are NaN or infinite, where and at which step they began;
    * *at its noise floor*: target linearity within two standard deviations of what noise gets,
      behind a layer where it is above, or at the last layer;
    * *collapsed rank*: features of effective rank near 1, where the targets have more directions;
    * *exploding* and *vanishing update*: a step larger than the kernel, or one that relative to it
      is below 1e-5 times that of the median layer. The step is one of plain gradient descent, at
      the ``learning_rate`` of the measurement, whatever the optimiser does;
    * *dead units*: more than half of a layer's, but not all;
    * *not reached by the loss*: a gradient of exactly zero, with no kernel of zeros behind it that
      the next step changes;
    * *memorisation*, with ``heldout``: adjusted target linearity up on training samples, and down
      or that of noise on held-out ones.

    All but the first and the last are looked for at the last step, and the last at the steps that
    both have. ``unchecked`` names the layers of which a check can say nothing: where a noise floor
    is above 0.9, of target linearity; where a head starts at zero, of the gradients before it; and
    where a number is absent. A branch with an input of its own, such as a time step, is at its
    noise floor by design.

    Args:
        watched: A measurement on training samples, or measurements by step. Those that hold sums
            need no further metrics; for ``Records`` measure with ``metrics=DIAGNOSTIC``.
        heldout: The same on samples that were not trained on.

    Raises:
        ValueError: If there is no measurement.
        TypeError: If there is something else.

    Example:
        >>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
        >>> params = {"in": jnp.eye(3, 5), "out": jnp.ones((5, 2)).at[0, 0].set(jnp.nan)}
        >>> x = jax.random.normal(jax.random.key(0), (50, 3))
        >>> loss = lambda out, y: optax.losses.softmax_cross_entropy_with_integer_labels(out, y)
        >>> m = measure(f, params, (x, x[:, 0] > 0), loss=lambda out, y: loss(out, y * 1).mean())
        >>> [(finding.layer, finding.kind) for finding in diagnose(m)]
        [('out', 'not finite')]
    """
    series = _series("watched", watched)
    findings, unchecked = [], []
    for step, numbers in series.items():
        if found := _findings("not finite", not_finite(numbers), step):
            findings += found
            break
    last = max(series)
    for kind, (check, metrics, _) in CHECKS.items():
        if absent := missing(series[last], metrics):
            unchecked.append((kind, f"which needs {', '.join(absent)} of some layer"))
        elif check is not not_finite:
            findings += _findings(kind, check(series[last]), last)
            if layers := unknown(series[last], metrics):
                known = " or ".join(metrics)
                unchecked.append((kind, f"of {', '.join(layers)}, without a finite {known}"))
    if layers := full(series[last]):
        reason = f"of {', '.join(layers)}, whose noise floor is above {FULL}: take more samples"
        unchecked.append(("at its noise floor", reason))
    if layers := before_zeros(series[last]):
        reason = f"of {', '.join(layers)}, before a kernel of zeros: measure again after a step"
        unchecked.append(("not reached by the loss", reason))
    if heldout is None:
        unchecked.append((MEMORY, "which needs heldout="))
    elif reason := incomparable(series, other := _series("heldout", heldout)):
        unchecked.append((MEMORY, reason))
    else:
        both = max(set(series) & set(other))
        findings += _findings(MEMORY, memorised(series, other), both)
        if layers := unmemorised(series[both], other[both]):
            unchecked.append((MEMORY, f"of {', '.join(layers)}, {UNCLEAR}"))
    return Diagnosis(tuple(findings), tuple(unchecked))


MEMORY = "memorisation"
UNCLEAR = (
    f"whose target linearity is unknown, or its noise floor above {FULL}, in watched or heldout: "
    "take more samples"
)


def _series(name: str, watched: Watched) -> dict[Any, Numbers]:
    """By step; a single measurement, which has none, by None."""
    if isinstance(watched, Measurement):
        return {None: Numbers(watched)}
    if not isinstance(watched, Mapping):
        kind = type(watched).__name__
        raise TypeError(f"{name} is a {kind}: wanted a Measurement, or several by step")
    steps: dict[Any, Any] = dict(watched)
    for step, measurement in steps.items():
        if not isinstance(measurement, Measurement) or not isinstance(step, int | np.integer):
            kinds = f"{type(measurement).__name__} at step {step!r}"
            raise TypeError(f"{name} holds a {kinds}: wanted Measurements by whole numbers")
    if not steps:
        raise ValueError(f"{name} holds 0 measurements: wanted one at least")
    return {int(step): Numbers(steps[step]) for step in sorted(steps)}


def _findings(kind: str, symptoms: Iterator[Symptom], step: int | None) -> list[Finding]:
    remedy = MEMORISATION if kind == MEMORY else CHECKS[kind][2]
    return [
        Finding(kind, layer, step, float(value), float(null), text, remedy)
        for layer, value, null, text in symptoms
    ]
