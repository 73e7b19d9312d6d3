"""A thousand networks for the neural feature ansatz, its isotropic form and its rivals.

The neural feature ansatz (arXiv 2212.13881) says that WᵀW ∝ AGOP, the average gradient outer
product of the outputs at a layer's input. A note on the ansatz observes that the chain rule's W
cancels, which leaves the claim J ∝ I: the gradients at the pre-activations form a tight frame. It
doubts that this determines W, and calls for a thousand experiments. Here they are. Beside the
ansatz stand the Features at Convergence Theorem (arXiv 2507.05644) and the six alignments of the
Canonical Representation Hypothesis (arXiv 2410.03006), each with the value that it has when random
rotations turn the pre-activations.

Fully connected networks without biases start from N(0, (scale)²/fan_in). A setting is the base with
one condition changed; each setting is one program over all initial scales, weight decays and seeds,
measured before and after training. The last linear layer is left out: there J = I whatever it
learns. Weight decay is coupled (a term of the loss) for SGD, decoupled for Adam and Muon. Images of
more than 64 pixels are reduced to their first 64 principal components.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..shared.checks import check_least

FORMS = (
    "nfa",
    "fact",
    "rga_before",
    "rwa_before",
    "gwa_before",
    "rga_after",
    "rwa_after",
    "gwa_after",
)
"""What is compared with its rotation null: the ansatz, FACT and the six alignments."""

REPLACEMENTS = ("rotated", "spectrum", "permuted", "other")
"""What takes the place of W: see ``replaced_kernel``; ``other`` is the next seed's kernel."""

DIRECTIONS = 10
"""Leading singular directions whose overlap is kept, and the rank of the Ky Fan ratio."""

SYNTHETIC = "staircase", "single_index"
"""Data sets for regression, which are computed."""

CHOICES = {
    "dataset": ("digits", "mnist", "cifar10", *SYNTHETIC),
    "activation": ("relu", "gelu", "tanh", "linear"),
    "optimizer": ("sgd", "adam", "muon"),
    "loss": ("cross_entropy", "squared_error", "logistic"),
    "inputs": ("plain", "rescaled"),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """The conditions of one program.

    Attributes:
        inputs: ``"rescaled"`` multiplies the input columns by factors from 0.1 to 10.
    """

    dataset: str = "digits"
    width: int = 64
    depth: int = 2
    activation: str = "relu"
    optimizer: str = "sgd"
    loss: str = "cross_entropy"
    inputs: str = "plain"

    def __post_init__(self) -> None:
        check_least(self, {"width": 2, "depth": 1})
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: wanted one of {', '.join(choices)}"
                )
        if self.loss != "squared_error" and self.dataset in SYNTHETIC:
            raise ValueError(f"loss is {self.loss} for {self.dataset}: wanted squared_error")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        variations: The settings, each ``"base"`` or changes of it: ``"depth=3"``,
            ``"dataset=staircase,loss=squared_error"``.
        init_scales: Multiples of the standard deviation 1/√fan_in of the initial kernels.
        weight_decays: λ of the term (λ/2)‖K‖² of SGD's loss, and decoupled for Adam and Muon.
        samples: Training samples at most, the first ones.
        probed: Samples of J, the first training samples.
        rotations: Number of random rotations of a null.
    """

    variations: tuple[str, ...] = (
        "base",
        "width=32",
        "depth=1",
        "depth=3",
        "activation=gelu",
        "activation=tanh",
        "activation=linear",
        "optimizer=adam",
        "optimizer=muon",
        "loss=squared_error",
        "loss=logistic",
        "inputs=rescaled",
        "dataset=staircase,loss=squared_error",
        "dataset=single_index,loss=squared_error",
    )
    width: int = 64
    init_scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    weight_decays: tuple[float, ...] = (0.0, 1e-3, 1e-2)
    seeds: int = 8
    samples: int = 1437
    probed: int = 256
    epochs: int = 60
    batch_size: int = 64
    rotations: int = 99

    def __post_init__(self) -> None:
        least = {"seeds": 2, "samples": 2, "epochs": 1, "batch_size": 1, "rotations": 2}
        check_least(self, least)
        if not 2 <= self.probed <= self.samples:
            raise ValueError(f"probed is {self.probed}: wanted 2 to samples, {self.samples}")
        for name in ("init_scales", "weight_decays", "variations"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}: wanted different ones, at least one")
        if not min(self.init_scales) > 0:
            raise ValueError(f"init_scales is {self.init_scales}: wanted positive numbers")
        if not min(self.weight_decays) >= 0:
            raise ValueError(f"weight_decays is {self.weight_decays}: wanted numbers of 0 or more")
        self.settings()

    def settings(self) -> dict[str, Setting]:
        """The settings by the names of their variations.

        Raises:
            ValueError: If a variation names no condition.
        """
        return {name: self._setting(name) for name in self.variations}

    def _setting(self, variation: str) -> Setting:
        changes: dict[str, Any] = {}
        for change in () if variation == "base" else variation.split(","):
            name, _, value = change.partition("=")
            if name not in {field.name for field in dataclasses.fields(Setting)} or not value:
                raise ValueError(f"variations has {variation!r}: wanted 'base' or 'depth=3,…'")
            changes[name] = int(value) if value.isdigit() else value
        return Setting(**{"width": self.width, **changes})

    @property
    def depth(self) -> int:
        """Hidden layers of the deepest network."""
        return max(setting.depth for setting in self.settings().values())


_DEFAULT = Config()

PRESETS = {
    "smoke": Config(
        variations=("base", "depth=1"),
        width=8,
        init_scales=(1.0,),
        weight_decays=(0.0, 1e-2),
        seeds=2,
        samples=60,
        probed=20,
        epochs=2,
        rotations=9,
    ),
    "default": _DEFAULT,
    "paper": Config(
        variations=(*_DEFAULT.variations, "width=128", "dataset=mnist", "dataset=cifar10")
    ),
}

RUNS = ("setting", "init_scale", "weight_decay", "seed")
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(
        ("alignment", "null_mean", "null_deviation", "p"), (*RUNS, "epoch", "layer", "form")
    ),
    **dict.fromkeys(
        ("nfa_half", "nfa_pearson", "nfa_centred", "nfa_without_derivative", "output_fact")
        + ("input_residual", "output_residual", "tight_frame")
        + ("isotropy", "range_isotropy", "debiased_isotropy")
        + ("lower_bound", "upper_bound", "rank", "isotropy_after_activation")
        + ("exponent", "determination", "ky_fan", "stable_rank", "components", "update_components")
        + ("influence_inputs", "influence_outputs"),
        (*RUNS, "epoch", "layer"),
    ),
    "overlap": (*RUNS, "epoch", "layer", "direction"),
    "replaced": (*RUNS, "epoch", "layer", "replacement"),
    **dict.fromkeys(("loss", "accuracy"), (*RUNS, "epoch")),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "setting": config.variations,
        "init_scale": config.init_scales,
        "weight_decay": config.weight_decays,
        "seed": range(config.seeds),
        "layer": range(1, config.depth + 1),
        "form": FORMS,
        "replacement": REPLACEMENTS,
        "direction": range(1, DIRECTIONS + 1),
    }
