"""The faults that ``diagnose`` looks for: one function each, from the numbers of all layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from gramlin_jax._measure.finish import evaluate
from gramlin_jax._measure.measurement import Measurement
from gramlin_jax.metrics.registry import DIAGNOSTIC, METRICS

# A layer's step is too large where it is as large as the kernel, and too small below this share of
# the median layer's.
LARGEST, USUAL, SMALLEST = 1.0, 1e-3, 1e-5
DEAD = 0.5  # share of units
FULL = 0.9  # of a noise floor above which target linearity says nothing
LOST = 0.05  # of held-out target linearity, beyond chance
KNOWN = 0.3  # target linearity of training samples that noise on held-out ones contradicts
DEVIATIONS = 2.0  # of chance


class Symptom(NamedTuple):
    """What a check found at a layer: a number, and what it is where nothing is wrong."""

    layer: str
    value: float
    null: float
    text: str


class Numbers:
    """Metrics of a measurement; those that it does not hold are computed from its sums."""

    def __init__(self, measurement: Measurement) -> None:
        self.loss, self.layers = float(measurement.loss), measurement.layers
        self._sums, self._coverage = measurement.sums, measurement.coverage.splitlines()
        self._values = {}
        for layer, values in measurement.metrics.items():
            sums = self._sums.get(layer)
            absent = tuple(METRICS[name] for name in DIAGNOSTIC if name not in values)
            absent = tuple(m for m in absent if sums and all(map(sums.has, m.needs)))
            more = jax.device_get(evaluate(sums, absent)) if sums and absent else {}
            self._values[layer] = {**more, **values}

    def of(self, metric: str, layer: str) -> float:
        """The value; NaN where there are neither value nor sums."""
        return float(self._values.get(layer, {}).get(metric, math.nan))

    def all(self, metric: str) -> dict[str, float]:
        """The values that are finite, by layer."""
        values = {layer: self.of(metric, layer) for layer in self.layers}
        return {layer: value for layer, value in values.items() if math.isfinite(value)}

    def knows(self, metric: str, layer: str) -> bool:
        """Whether it was measured, be it NaN."""
        return metric in self._values[layer]

    def width(self, layer: str) -> float:
        """Number of features; infinity where it was not measured."""
        width = self.of("width", layer)
        return math.inf if math.isnan(width) else width

    def rate(self, layer: str) -> str:
        """In words, the learning rate of its steps, which no optimiser has scaled."""
        sums = self._sums.get(layer)
        return f" at learning_rate={sums.learning_rate:g}" if sums else ""

    def has_kernel(self, layer: str) -> bool:
        """Whether it is no named activation, which has no kernel whose norm could be NaN."""
        if sums := self._sums.get(layer):
            return not (sums.kernel is None and sums.gradients is None)  # a probe may lack either
        names = layer, layer.rpartition("[")[0]  # the second of one that a scan stacks
        return not any(
            line.startswith(f"{name}: named activation")
            for line in self._coverage
            for name in names
        )


def not_finite(numbers: Numbers) -> Iterator[Symptom]:
    """Where the first value that is not finite is made: forward, else backward, else the loss."""
    rows = numbers.all("rows")  # NaN where the features were not measured
    bad = {
        metric: [
            layer
            for layer in numbers.layers
            if numbers.knows(metric, layer)
            and not math.isfinite(numbers.of(metric, layer))
            and (layer in rows if metric == "feature_rank" else numbers.has_kernel(layer))
        ]
        for metric in ("feature_rank", "kernel_norm", "gradient_norm")
    }
    forward = [x for x in numbers.layers if x in bad["feature_rank"] or x in bad["kernel_norm"]]
    backward = bad["gradient_norm"]
    if forward:
        first = forward[0]
        holds = "features that it reads are" if first in bad["feature_rank"] else "kernel is"
        yield Symptom(first, len(forward), 0, f"the {holds} not finite, the first in the network")
    elif backward:
        text = "gradient is not finite, the first on the way back from the loss"
        yield Symptom(backward[-1], len(backward), 0, text)
    elif not math.isfinite(numbers.loss):
        yield Symptom("loss", 1, 0, "the loss is not finite, and every layer is")


def below_floor(numbers: Numbers) -> Iterator[Symptom]:
    """Layers whose target linearity is that of noise, behind one where it is not, and the last."""
    before = False
    linearity, floors, rows = map(numbers.all, ("target_linearity", "noise_floor", "rows"))
    layers = [x for x in numbers.layers if x in linearity and floors.get(x, 1) <= FULL]
    for layer in layers:
        value, floor = linearity[layer], floors[layer]
        chance = DEVIATIONS * _deviation(floor, rows.get(layer, math.inf))
        if value > floor + chance:
            before = True
        elif before or layer == numbers.layers[-1]:
            text = "target linearity of the features is that of noise"
            yield Symptom(layer, value, floor, text)


def collapsed(numbers: Numbers) -> Iterator[Symptom]:
    """Layers whose features vary along about one direction, where the targets need several."""
    wanted = numbers.all("target_rank")
    for layer, rank in numbers.all("feature_rank").items():
        directions = wanted.get(layer, 1)
        possible = min(directions, numbers.width(layer))
        if directions > 0 and rank < 1 + min(0.5, (possible - 1) / 10):
            text = "effective rank of the features; the targets have several directions"
            yield Symptom(layer, rank, directions, text)


def exploding(numbers: Numbers) -> Iterator[Symptom]:
    """Layers whose step of gradient descent is as large as their kernel."""
    updates = numbers.all("relative_update")
    for layer, value in updates.items():
        if value > LARGEST:
            text = f"a plain gradient step{numbers.rate(layer)} relative to the kernel, ‖ΔK‖/‖K‖"
            yield Symptom(layer, value, USUAL, text)


def vanishing(numbers: Numbers) -> Iterator[Symptom]:
    """Layers whose step is far smaller than that of the others."""
    updates = {layer: v for layer, v in numbers.all("relative_update").items() if v > 0}
    median = float(np.median(list(updates.values()))) if updates else 0.0
    for layer, value in updates.items():
        if value < SMALLEST * median:
            text = "a plain gradient step relative to the kernel, ‖ΔK‖/‖K‖, far below the median's"
            yield Symptom(layer, value, median, text)


def dead(numbers: Numbers) -> Iterator[Symptom]:
    """Layers most of whose units no sample's gradient reaches; where it is all, see below."""
    for layer, share in numbers.all("dead_units").items():
        if DEAD < share < 1:
            yield Symptom(layer, share, 0.0, "share of units that no sample's gradient reaches")


def unreached(numbers: Numbers) -> Iterator[Symptom]:
    """Layers whose gradient is exactly zero, unless the loss is, or a step may change it."""
    norms, waiting = numbers.all("gradient_norm"), before_zeros(numbers)
    others = [norm for norm in norms.values() if norm > 0]
    if not others and numbers.loss == 0:
        return
    for layer, norm in norms.items():
        if norm == 0 and layer not in waiting:
            median = float(np.median(others)) if others else 0.0
            yield Symptom(layer, norm, median, "norm of the gradient: the loss does not reach it")


def before_zeros(numbers: Numbers) -> list[str]:
    """Layers without a gradient before a kernel of zeros that has one, as heads often start."""
    norms, kernels = numbers.all("gradient_norm"), numbers.all("kernel_norm")
    zeros = [x for x in numbers.layers if kernels.get(x) == 0 and norms.get(x, 0) > 0]
    before = numbers.layers[: numbers.layers.index(zeros[-1])] if zeros else ()
    return [layer for layer in before if norms.get(layer) == 0]


def incomparable(train: Mapping[int, Numbers], heldout: Mapping[int, Numbers]) -> str:
    """Why ``memorised`` has nothing to compare; empty if it has."""
    steps = set(train) & set(heldout)
    if not steps:
        return "which needs steps that watched and heldout both have"
    both = train[max(steps)], heldout[max(steps)]
    absent = dict.fromkeys(m for numbers in both for m in missing(numbers, MEMORY_METRICS))
    if absent:
        return f"which needs {', '.join(absent)} of some layer, in watched and heldout"
    shared = set(both[0].layers) & set(both[1].layers)
    return "" if shared else "which needs layers that watched and heldout both have"


def memorised(train: Mapping[int, Numbers], heldout: Mapping[int, Numbers]) -> Iterator[Symptom]:
    """Layers that separate training samples ever better, and held-out ones worse or not at all.

    The step where target linearity was best on held-out samples is compared with the last one. It
    is of a fit of their own, above the noise floor, (TL − floor)/(1 − floor): a fit to training
    samples is unbounded on others where features hardly vary. Steps at which either is unknown are
    left out; where that is the last one, so is the layer, see ``unmemorised``.
    """
    steps = sorted(set(train) & set(heldout))
    for layer in train[steps[-1]].layers if steps else ():
        both = np.array([[_above(of[s], layer) for s in steps] for of in (train, heldout)])
        known = np.isfinite(both).all(0)
        if not known[-1]:
            continue
        own, other = both[:, known]
        best, (floor, rows) = int(other.argmax()), _floor(heldout[steps[-1]], layer)
        noise, chance = (
            DEVIATIONS * _deviation(floor, rows, above) / (1 - floor) for above in (0, other[best])
        )
        fell = other[-1] < other[best] - LOST - chance and own[-1] > own[best] + LOST
        nothing = other[-1] < noise and own[-1] > KNOWN
        if fell or nothing:
            text = "target linearity on held-out samples, beside that on training samples"
            yield Symptom(layer, other[-1], own[-1], text)


def unmemorised(*both: Numbers) -> list[str]:
    """Layers for which ``memorised`` has nothing to compare at a step of both."""
    return [x for x in both[0].layers if not all(math.isfinite(_above(of, x)) for of in both)]


def _above(numbers: Numbers, layer: str) -> float:
    """Target linearity above its noise floor, 1 at most; NaN where the floor leaves no room."""
    value, (floor, _) = numbers.of("target_linearity", layer), _floor(numbers, layer)
    return (value - floor) / (1 - floor) if floor <= FULL else math.nan


def _floor(numbers: Numbers, layer: str) -> tuple[float, float]:
    return numbers.of("noise_floor", layer), numbers.of("rows", layer)


def _deviation(floor: float, rows: float, above: float = 0.0) -> float:
    """Standard deviation of R² over samples: by the beta law for noise, and by Fisher's beyond."""
    share = max(above, 0.0)
    return math.sqrt((2 * floor * (1 - floor) + 4 * share * (1 - share) ** 2) / (rows + 1))


# By kind of finding: the check, the metrics that it reads, and what to do.
CHECKS: dict[str, tuple[Callable[[Numbers], Iterator[Symptom]], tuple[str, ...], str]] = {
    "not finite": (
        not_finite,
        ("feature_rank", "kernel_norm", "gradient_norm", "rows"),
        "look at what is computed there: a logarithm, root or quotient at 0, an exponential that "
        "overflows; then at the learning rate and at half precision",
    ),
    "at its noise floor": (
        below_floor,
        ("target_linearity", "noise_floor", "rows"),
        "what earlier layers knew of the targets is lost here: look at scale, normalisation and "
        "learning rate of the layer before it",
    ),
    "collapsed rank": (
        collapsed,
        ("feature_rank", "target_rank"),
        "centre and normalise what it reads; look for a saturated or constant layer before it",
    ),
    "exploding update": (
        exploding,
        ("relative_update",),
        "lower the learning rate, clip gradients, or scale the loss or this layer's initialisation",
    ),
    "vanishing update": (
        vanishing,
        ("relative_update",),
        "use residual branches, normalisation or an activation that does not saturate behind it",
    ),
    "dead units": (
        dead,
        ("dead_units",),
        "lower the learning rate, start biases at 0, or use an activation with a slope on both "
        "sides",
    ),
    "not reached by the loss": (
        unreached,
        ("gradient_norm",),
        "look for a stopped gradient, an output that the loss leaves out, dead units or a kernel "
        "of zeros behind it",
    ),
}
MEMORY_METRICS = "target_linearity", "noise_floor", "rows"
MEMORISATION = (
    "stop where the held-out value was best; add data, augmentation or weight decay; check labels"
)


def full(numbers: Numbers) -> list[str]:
    """Layers whose noise floor leaves target linearity nothing to say."""
    return [layer for layer, floor in numbers.all("noise_floor").items() if floor > FULL]


def unknown(numbers: Numbers, metrics: tuple[str, ...]) -> list[str]:
    """Layers at which one of these metrics is no finite number, though they have what it is of."""
    of_features = all("features" in METRICS[metric].needs for metric in metrics)
    return [
        layer
        for layer in numbers.layers
        if not all(math.isfinite(numbers.of(metric, layer)) for metric in metrics)
        if of_features or numbers.has_kernel(layer)
    ]


def missing(numbers: Numbers, metrics: tuple[str, ...]) -> list[str]:
    """Which of these metrics were measured at no layer."""
    return [m for m in metrics if not any(numbers.knows(m, layer) for layer in numbers.layers)]
