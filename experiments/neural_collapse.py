"""Neural collapse beside target linearity, to the terminal phase of training.

Papyan, Han and Donoho (2020): once all train samples are classified, the last hidden features
collapse to their class means (NC1), the means to a simplex equiangular tight frame (NC2), the
classifier to the means (NC3) and its decision to the nearest mean (NC4). The paper sees target
linearity as what they share, and for balanced one-hot targets the link is exact in every layer at
every time: TL = tr(Σ_T⁻¹Σ_B)/(C − 1), Σ_T and Σ_B being the scatter of features and of class means.

A fully connected network (3 hidden layers of 256, ReLU) is trained by SGD with momentum and weight
decay, without which nothing drives the collapse, on the squared error to one-hot labels, as by Han,
Papyan and Donoho (2022), and on cross-entropy. Every class has the same number of train samples.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.classification import layer_sums, rate_or_schedule
from experiments.curves import about, spelled
from experiments.framework import Claim, Result, check_least, check_momentum, check_positive
from experiments.neural_collapse_drawing import TERMINAL, by_loss, plot
from experiments.rank_correlation import rank_correlation
from gramlin_jax import Moments, accumulate, nc4_mismatch, neural_collapse, target_linearity
from gramlin_jax._moments.features import CONSTANT
from gramlin_jax.data import Dataset, load
from gramlin_jax.models import DNN
from gramlin_jax.models.dnn import ACTIVATIONS
from gramlin_jax.support.precision import dot, eigh, in_float64, rank_tolerance
from gramlin_jax.training import Fit, Hyper, SampleLoss, classification_loss, fit, grid

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

__all__ = ["PRESETS", "check", "plot", "run", "table"]


LINK_RTOL = 1e-10
"""Rank tolerance of both sides of the link: smaller directions have no digits to compare."""


def squared_error(logits: Float[Array, "n C"], labels: Int[Array, "n"]) -> Float[Array, "n"]:
    """Half the squared distance of the logits from one-hot labels."""
    return optax.l2_loss(logits, jax.nn.one_hot(labels, logits.shape[-1])).sum(-1)


LOSSES = {
    "squared_error": squared_error,
    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the run.

    Attributes:
        dataset: A name that ``gramlin_jax.data.load`` knows.
        losses: What is trained on, each by itself: names of ``LOSSES``.
        decay: Whether the learning rate falls to 0 over the epochs, as half a cosine.
        weight_decay: λ of ‖params‖² λ/2 in the loss.
        measurements: Number of epochs at which the layers are measured, evenly spread on the scale
            of log(1 + epoch).
        samples: Train samples of each class, 0 for as many as the smallest class has.
    """

    dataset: str = "digits"
    losses: tuple[str, ...] = ("squared_error", "cross_entropy")
    width: int = 256
    depth: int = 3
    activation: Literal["gelu", "relu"] = "relu"
    learning_rate: float = 0.05
    decay: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    epochs: int = 1000
    measurements: int = 41
    seeds: int = 5
    samples: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("width", "batch_size", "epochs", "seeds"), 1)
        check_least(self, {**least, "depth": 2, "measurements": 2})
        if self.samples != 0 and not self.samples >= 2:
            raise ValueError(
                f"samples is {self.samples}: wanted 2 or more of each class, 0 for all"
            )
        check_positive(self, "learning_rate")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}: wanted a number of 0 or more")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}: wanted one of {', '.join(ACTIVATIONS)}"
            )
        if not self.losses or len({*self.losses} & {*LOSSES}) < len(self.losses):
            raise ValueError(f"losses is {self.losses}: wanted some of {', '.join(LOSSES)}, once")
        check_momentum(self)


PRESETS = {
    "smoke": Config(width=16, depth=2, epochs=3, measurements=3, seeds=2, samples=20),
    "default": Config(),
    "paper": Config(
        dataset="mnist", decay=True, samples=5000, epochs=350, measurements=31, seeds=1
    ),
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Result:
    """Train on each loss, all seeds in one program, and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints go, from which a run that was cut off goes on; None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        Arrays of shape (losses, seeds, measurements, depth) for ``target_linearity``, ``link`` (the
        right side of the exact link), ``link_error`` (its distance from the left one, both of rank
        tolerance ``LINK_RTOL``), ``nc1``, ``equinorm``, ``equiangularity``, ``etf_distance`` and
        ``cdnv``; of the last hidden layer, (losses, seeds, measurements), for ``nc3``, ``offset``,
        ``train_nc4`` and ``test_nc4``; losses and accuracies likewise; and ``epochs``.
    """
    train = balanced(load(config.dataset, "train", data_dir=data_dir), config.samples)
    test = load(config.dataset, "test", data_dir=data_dir)
    assert train.num_classes is not None  # all sets of load are for classification
    model = DNN(config.width, config.depth, train.num_classes, config.activation)
    data = [(jnp.asarray(split.flat), jnp.asarray(split.y)) for split in (train, test)]
    fits = []
    for loss in config.losses:
        directory = None if folder is None else str(folder / "training" / loss)
        fits.append(_train(config, model, loss, data, directory))
    names = fits[0].measurements
    arrays = {name: np.stack([one.measurements[name] for one in fits]) for name in names}
    info = {"train": train.source, "test": test.source, "execution": fits[0].execution}
    return Result(
        config, {**arrays, "epochs": fits[0].measured_at}, {**info, "samples": len(train)}
    )


def _train(
    config: Config,
    model: DNN,
    loss: str,
    data: list[tuple[Array, Array]],
    directory: str | None,
) -> Fit:
    """One loss, all seeds; ``data`` are inputs (n, d) and labels (n,) of train and test."""
    at = np.expm1(np.linspace(0, np.log1p(config.epochs), config.measurements))
    return fit(
        lambda key: model.init(key, data[0][0][:1]),
        classification_loss(model.apply, LOSSES[loss]),
        optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(
                rate_or_schedule(config, config.learning_rate, len(data[0][0])),
                momentum=config.momentum,
            ),
        ),
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep=grid(seed=range(config.seeds)),
        measure=collapse_metrics(model, LOSSES[loss]),
        measure_data=data,
        measure_at=np.unique(at.round().astype(int)),
        directory=directory,
    )


def balanced(data: Dataset, samples: int = 0) -> Dataset:
    """The first ``samples`` of each class, or as many as the smallest one has, in their order.

    Raises:
        ValueError: If a class has fewer than two, or than ``samples``.
    """
    labels = np.asarray(data.y)
    counts = np.bincount(labels, minlength=data.num_classes or 0)
    if (few := np.flatnonzero(counts < 2)).size:
        raise ValueError(f"data has fewer than two samples of classes {few.tolist()}")
    if samples > counts.min():
        raise ValueError(f"samples is {samples}: wanted at most {counts.min()}, of each class")
    each = samples or int(counts.min())
    rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(len(counts))]))
    return dataclasses.replace(data, x=data.x[rows], y=labels[rows])


def collapse_metrics(model: DNN, loss: SampleLoss) -> Any:
    """``measure`` of ``fit``, on a pair of train and test: what ``run`` returns."""

    def measure(params: Any, hyper: Hyper, data: Any) -> dict[str, Array]:
        del hyper
        on_train, on_test = (layer_sums(model, params, split, loss) for split in data)
        layers = on_train["moments"]
        head = params["params"][f"Dense_{model.depth}"]
        inner = [neural_collapse(m) for m in layers[:-1]]
        last = neural_collapse(layers[-1], head["kernel"], head["bias"])
        by_layer = ("nc1", "equinorm", "equiangularity", "etf_distance", "cdnv")
        errors = [
            abs(target_linearity(m, rtol=LINK_RTOL) - between_share(m, LINK_RTOL)) for m in layers
        ]
        nc4 = [_mismatch(model, params, layers[-1], split) for split in data]
        return {
            **{name: jnp.stack([getattr(c, name) for c in (*inner, last)]) for name in by_layer},
            "nc3": last.nc3,
            "offset": last.offset,
            "train_nc4": nc4[0],
            "test_nc4": nc4[1],
            "target_linearity": jnp.stack([target_linearity(m) for m in layers]),
            "link": jnp.stack([between_share(m) for m in layers]),
            "link_error": jnp.stack(errors),
            **{f"train_{name}": on_train[name] for name in ("loss", "accuracy")},
            **{f"test_{name}": on_test[name] for name in ("loss", "accuracy")},
        }

    return measure


def _mismatch(model: DNN, params: Any, m: Moments, data: tuple[Array, Array]) -> Array:
    """NC4 on ``data``, with the class means of ``m``."""

    def mismatches(batch: tuple[Array, Array]) -> Array:
        logits, features = cast("tuple[Array, list[Array]]", model.apply(params, batch[0]))
        share: Array = nc4_mismatch(m, features[-1], logits.argmax(-1))
        return share.astype(jnp.float32) * len(batch[0])

    total: Array = accumulate(mismatches, data)
    return total / len(data[0])


@in_float64
def between_share(m: Moments, rtol: float | None = None) -> Float[Array, ""]:
    """tr(Σ_T⁻¹Σ_B)/(C − 1) of features (n, d) and one-hot targets (n, C), with no regression.

    From the same moments as target linearity: that both agree says nothing of the moments.

    Σ_B is that of the samples' centring; Σ_T⁻¹ a pseudo-inverse, of directions with an eigenvalue
    above ``rtol`` of the largest, columns scaled: those that ``target_linearity`` fits with it, by
    default those above max(64, d)·2⁻⁵².
    """
    squares = jnp.diag(m.feature_scatter)
    varying = squares > m.count * (CONSTANT * m.feature_mean) ** 2  # more than by rounding
    scale = jnp.where(varying, 1 / jnp.sqrt(jnp.where(varying, squares, 1)), 0)[:, None]
    values, vectors = eigh(m.feature_scatter * scale * scale.T)
    least = rank_tolerance(len(values)) if rtol is None else rtol
    there = values > least * values[-1]
    means = m.cross_scatter / jnp.sqrt(m.count * m.target_mean)[None]  # √n_c (μ_c − h̄)
    inverse = jnp.where(there, 1 / jnp.where(there, values, 1), 0)[:, None]
    solved = scale * dot(vectors, inverse * dot(vectors.T, scale * means))
    # tr MᵀΣ⁺M at its stationary point, where an error of Σ⁺M counts squared.
    total = 2 * jnp.sum(means * solved) - jnp.sum(solved * dot(m.feature_scatter, solved))
    return total / (len(m.target_mean) - 1)


def check(result: Result) -> list[Claim]:
    """What neural collapse and its link to target linearity say. Claims hold if in every seed.

    The exact link first: in every layer at every measured epoch of all losses, to 1e-8, in the
    directions that have digits to compare (``LINK_RTOL``). Then, for each loss, its terminal phase
    going from the first measured epoch of train accuracy 0.999 to the last one:

    1. to 4. NC1, NC2 (distance to the simplex ETF) and NC3 of the last hidden layer are lower at
       the end of the terminal phase than at its beginning; NC4's mismatch on train samples ends
       below 0.001. Only tested if all seeds reach that phase.
    5. In the terminal phase target linearity of the last layer rises as NC1 falls: Spearman's
       correlation of NC1 and 1 − TL is above 0.9.
    6. NC1 at the end falls from layer to layer.
    """
    arrays = result.arrays
    residual = arrays["link_error"].max((0, 2, 3))
    evidence = f"largest residual {residual.max():.1e}"
    link = _claim("TL = tr(Σ_T⁻¹Σ_B)/(C − 1) along the run", residual < 1e-8, evidence)
    of_losses = [_collapse_claims(loss, of) for loss, of in by_loss(result).items()]
    return [link, *(claim for claims in of_losses for claim in claims)]


def _collapse_claims(loss: str, arrays: dict[str, np.ndarray]) -> list[Claim]:
    """The claims on one loss; ``arrays`` begin with the axis of seeds."""
    claims = []
    accuracies = arrays["train_accuracy"]
    begins = [_terminal(accuracy) for accuracy in accuracies]
    reached = int((accuracies >= TERMINAL).any(1).sum())
    if reached < len(begins):
        evidence = f"{reached} of {len(begins)} seeds reach train accuracy {TERMINAL}"
        return [Claim(f"{loss}: NC1 to NC4 in the terminal phase", None, evidence)]
    for name, statement in (
        ("nc1", "NC1, features collapse to their class means in the terminal phase"),
        ("etf_distance", "NC2, class means come nearer to a simplex ETF in the terminal phase"),
        ("nc3", "NC3, the classifier comes nearer to the class means in the terminal phase"),
    ):
        values = arrays[name] if name == "nc3" else arrays[name][..., -1]
        pairs = np.array([(run[i], run[-1]) for run, i in zip(values, begins, strict=True)])
        evidence = " → ".join(map(about, pairs.T))
        claims.append(_claim(f"{loss}: {statement}", pairs[:, 1] < pairs[:, 0], evidence))
    nc4 = arrays["train_nc4"][:, -1]
    statement = f"{loss}: NC4, the decision is the nearest class mean's"
    claims.append(_claim(statement, nc4 < 1e-3, about(nc4)))
    nc1, missing = arrays["nc1"][..., -1], 1 - arrays["target_linearity"][..., -1]
    ranks = np.array(
        [rank_correlation(a[i:], b[i:]) for a, b, i in zip(nc1, missing, begins, strict=True)]
    )
    statement = f"{loss}: in the terminal phase target linearity rises as NC1 falls"
    claims.append(_claim(statement, ranks > 0.9, f"rank correlation {spelled(ranks)}"))
    final = arrays["nc1"][:, -1]
    ordered = np.asarray((np.diff(final, axis=1) < 0).all(1))
    evidence = "by layer " + ", ".join(map(about, final.T))
    return [*claims, _claim(f"{loss}: at the end NC1 falls from layer to layer", ordered, evidence)]


def _terminal(accuracy: np.ndarray) -> int:
    """The index at which the terminal phase begins; the last, where it does not begin."""
    reached = accuracy >= TERMINAL
    return int(reached.argmax()) if reached.any() else len(accuracy) - 1


def _claim(statement: str, true: np.ndarray, evidence: str) -> Claim:
    count = f"{np.count_nonzero(true)} of {len(true)} seeds"
    return Claim(statement, bool(true.all()), f"{count}; {evidence}")


def table(result: Result) -> str:
    """By loss, layers and the last one's geometry: first, as the terminal phase begins, last."""
    lines = []
    for loss, of in by_loss(result).items():
        begins = [_terminal(accuracy) for accuracy in of["train_accuracy"]]
        times = {"start": [0] * len(begins), "terminal": begins, "end": [-1] * len(begins)}
        lines.append(f"{loss:<24}" + "".join(f"{name:>22}" for name in times))
        rows = {"epoch": np.broadcast_to(result.arrays["epochs"], of["train_accuracy"].shape)}
        plain = "train_accuracy", "test_accuracy", "nc3", "offset", "train_nc4", "test_nc4"
        rows |= {name: of[name] for name in plain}
        last = "etf_distance", "equinorm", "equiangularity", "cdnv"
        rows |= {name: of[name][..., -1] for name in last}
        for name in ("nc1", "target_linearity"):
            layers = range(result.config.depth)
            rows |= {f"{name}, layer {layer + 1}": of[name][..., layer] for layer in layers}
        for name, values in rows.items():
            picked = (
                [run[at] for run, at in zip(values, when, strict=True)] for when in times.values()
            )
            lines.append(f"{name:<24}" + "".join(f"{about(np.array(p)):>22}" for p in picked))
    return "\n".join(lines)
