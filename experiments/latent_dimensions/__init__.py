"""Latent dimensions of representations and weights, and rainbow networks.

A tutorial (CCN 2023) after Guth, Ménard, Rochette and Mallat, *A rainbow in deep network black
boxes*. Networks without biases, with PyTorch's initialisation, classify CIFAR-10, which is
normalised by the mean and deviation of ImageNet and then turned grey, in this order. They are
trained by SGD 0.01, momentum 0.9, batches of 128, for 5 epochs: an MLP 1024-512-256-10, and a CNN
1-32-64 (5×5, stride 2, no padding) with a linear classifier.

Its sections are: the samples; spectra of activations (uncentred second moments; positions of a
convolution are further samples) and of weights, beside initialisation and the Marchenko–Pastur law;
accuracy against the number of kept activation or weight components; a layer as project, scale and
embed; the alignment of two networks of different seeds; the stability of eigenvectors; and networks
resampled from the weight covariances.

Departures. The tutorial is one run without a seed; here there are several pairs of networks. It
measures alignment uncentred and on training images alone; here centred and on test images, too, by
the rotation of the training images. Its two baselines are two untrained networks, and
networks of which one reads the samples in another order. Its sampler leaves out 1/√n, which only
scales the logits of a network without biases. The number of learned components is not read off a
plot: a sequence of tests counts the eigenvalues that stand out from noise. A third network has
fixed wavelets as spatial filters and learnt maps of channels, since learnt spatial filters are not
Gaussian.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..shared.checks import check_least, check_momentum, check_positive

NETWORKS = ("mlp", "cnn", "wavelets")
KINDS = ("trained", "untrained", "permuted")
"""Pairs of networks: trained, and two baselines."""

VARIANTS = ("all layers", "layer 1", "layer 2", "twice as wide", "two networks")
"""What is resampled."""

SHOWN = 6
"""Components of the first layer that are drawn."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: An image set, one of ``gramlin_jax.data.DATASETS``.
        network: One of ``NETWORKS``.
        samples: Training samples, the first ones; 0 for all.
        units: Of the hidden layers of the MLP.
        channels: Of the convolutions of the other networks.
        size: Height and width of the convolutions' filters.
        stride: Of the convolutions.
        components: Eigenvectors in a stability map, where there are as many.
        ranks: Numbers of kept components at which accuracy is measured, evenly spread on a
            logarithmic scale.
        aligned: Training samples on which resampled layers are aligned.
        draws: Networks drawn from each trained one.
        seeds: Pairs of networks.
    """

    dataset: str = "digits"
    network: Literal["mlp", "cnn", "wavelets"] = "mlp"
    samples: int = 0
    units: tuple[int, int] = (128, 64)
    channels: tuple[int, int] = (16, 32)
    size: int = 3
    stride: int = 1
    learning_rate: float = 0.01
    momentum: float = 0.9
    batch_size: int = 32
    epochs: int = 30
    components: int = 50
    ranks: int = 30
    aligned: int = 10_000
    draws: int = 5
    seeds: int = 3

    def __post_init__(self) -> None:
        least = dict.fromkeys(("batch_size", "epochs", "components", "draws", "seeds"), 1)
        least |= {"samples": 0, "size": 1, "stride": 1, "ranks": 2, "aligned": 1}
        check_least(self, least)
        check_positive(self, "learning_rate")
        check_momentum(self)
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}: wanted one of {', '.join(NETWORKS)}")
        for name in ("units", "channels"):
            widths = getattr(self, name)
            if len(widths) != 2 or min(widths) < 8:
                raise ValueError(f"{name} is {widths}: wanted two numbers of 8 or more")

    @property
    def widths(self) -> tuple[int, int]:
        """Units or channels of the hidden layers."""
        return self.units if self.network == "mlp" else self.channels

    def kept(self) -> np.ndarray:
        """The numbers of kept components."""
        spread = np.geomspace(1, max(self.widths), self.ranks).round().astype(int)
        return np.unique([*spread, *self.widths])


PRESETS = {
    "smoke": Config(
        samples=200,
        units=(16, 8),
        channels=(8, 8),
        epochs=2,
        components=6,
        ranks=4,
        draws=2,
        seeds=2,
    ),
    "default": Config(),
    "paper": Config(
        dataset="cifar10",
        units=(512, 256),
        channels=(32, 64),
        size=5,
        stride=2,
        batch_size=128,
        epochs=5,
    ),
}

RUNS = ("seed",)
"""The dimensions that tell the networks apart."""

DIMENSIONS = {
    **dict.fromkeys(("train_accuracy", "test_accuracy"), ("pair", "seed", "epoch")),
    "samples": ("sample", "row", "column", "colour"),
    "grey": ("sample", "row", "column"),
    "classes": ("sample",),
    **dict.fromkeys(
        ("activation_spectrum", "partner_spectrum", "weight_spectrum", "initial_spectrum"),
        ("seed", "layer", "component"),
    ),
    **dict.fromkeys(("significant", "initial_significant", "threshold"), ("seed", "layer")),
    "noise_edge": ("seed", "layer"),
    **dict.fromkeys(("activation_clipping", "weight_clipping"), ("seed", "layer", "rank")),
    "learned_alone": ("seed", "layer"),
    "project": ("seed", "shown", "y", "x"),
    "scale": ("seed", "shown"),
    "embed": ("seed", "shown", "unit"),
    "alignment": ("seed", "kind", "layer", "split", "centring"),
    **dict.fromkeys(("cka", "debiased_cka", "alignment_r2"), ("seed", "kind", "layer")),
    **dict.fromkeys(
        ("activation_stability", "weight_stability"), ("seed", "kind", "layer", "first", "second")
    ),
    "resampled": ("seed", "variant", "draw"),
}
"""The arrays of a result and their dimensions."""


def coordinates(config: Config) -> dict[str, Iterable[Any]]:
    """What lies along the dimensions."""
    return {
        "seed": range(config.seeds),
        "pair": ("first", "second"),
        "layer": (1, 2),
        "kind": KINDS,
        "split": ("train", "test"),
        "centring": ("uncentred", "centred"),
        "rank": config.kept().tolist(),
        "variant": VARIANTS,
        "draw": range(config.draws),
    }


def published_setting(config: Config) -> bool:
    """Whether a run is the tutorial's, but for the seeds."""
    free = ("seeds", "draws", "components", "ranks", "aligned", "network")
    paper = PRESETS["paper"]
    names = [field.name for field in dataclasses.fields(config) if field.name not in free]
    same = all(getattr(config, name) == getattr(paper, name) for name in names)
    return same and config.network in ("mlp", "cnn")
