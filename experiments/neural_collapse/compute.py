"""Train to the terminal phase, measured by NC1 to NC4 and target linearity."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gramlin_jax import Moments, accumulate, nc4_mismatch, neural_collapse, target_linearity
from gramlin_jax.data import Dataset
from gramlin_jax.metrics import least_squares
from gramlin_jax.models import CNN, DNN
from gramlin_jax.support.precision import in_float64
from gramlin_jax.training import Hyper, Measure, SampleLoss, classification_loss

from ..shared.measures import Reading, layer_sums, scores
from ..shared.parts import parts
from ..shared.results import Computed
from ..shared.training import (
    Trained,
    classes_of,
    facts,
    load_splits,
    on_device,
    rate_or_schedule,
    train,
)
from . import LINK_RTOL, Config

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def squared_error(logits: Float[Array, "n C"], labels: Int[Array, "n"]) -> Float[Array, "n"]:
    """Half the squared distance of the logits from one-hot labels."""
    return optax.l2_loss(logits, jax.nn.one_hot(labels, logits.shape[-1])).sum(-1)


LOSSES = {
    "squared_error": squared_error,
    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
}


def run(config: Config, *, folder: Path | None = None, data_dir: str | None = None) -> Computed:
    """Train on each loss, all seeds in one program, and measure each layer along the way.

    Args:
        config: The settings.
        folder: Where checkpoints and finished losses go, from which an interrupted run continues;
            None: nowhere.
        data_dir: Folder of TFDS data sets, see ``gramlin_jax.data.load``.

    Returns:
        What ``collapse_metrics`` measures, and ``epochs``.
    """
    every, test = load_splits(config.dataset, data_dir, folder=folder)
    train_data = balanced(every, config.samples)
    model = network(config, classes_of(every))
    data = on_device(*((split.x, split.y) for split in (train_data, test)))

    def one(loss: str, directory: Path | None) -> dict[str, np.ndarray]:
        trained = _train(config, model, loss, data, directory)
        return {**trained.measurements, "execution": np.array(trained.fit.execution)}

    arrays = parts(folder, config.losses, one)
    info = {**facts(train_data, test), "execution": arrays.pop("execution").tolist()}
    return {**arrays, "epochs": _measured_at(config)}, {**info, "samples": len(train_data)}


def network(config: Config, classes: int) -> Reading:
    """The network. Its hidden features are rows (n, width), as its classifier reads the last."""
    if config.network == "dnn":
        return Reading(DNN(config.width, config.depth, classes, config.activation), averaged)
    pools = tuple(range(0, config.depth, 2))
    return Reading(CNN(classes, config.width, config.depth, pools, average=True), averaged)


def averaged(features: list[Array]) -> list[Array]:
    """Means (n, d) over the positions of maps (n, height, width, d); rows (n, d) as they are."""
    return [h.mean(tuple(range(1, h.ndim - 1))) for h in features]


def _measured_at(config: Config) -> np.ndarray:
    """Epochs evenly spread on the scale of log(1 + epoch), each once."""
    at = np.expm1(np.linspace(0, np.log1p(config.epochs), config.measurements))
    return np.unique(at.round().astype(int))


def _train(
    config: Config,
    model: Reading,
    loss: str,
    data: list[tuple[Array, Array]],
    directory: Path | None,
) -> Trained:
    """Train all seeds on one loss; ``data`` are the train and test inputs (n, d), labels (n,)."""
    rate = rate_or_schedule(config, config.learning_rate, len(data[0][0]))
    return train(
        lambda key: model.init(key, data[0][0][:1]),
        classification_loss(model.apply, LOSSES[loss]),
        optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(rate, momentum=config.momentum),
        ),
        data[0],
        epochs=config.epochs,
        batch_size=config.batch_size,
        sweep={"seed": range(config.seeds)},
        measure=Measure(collapse_metrics(model, LOSSES[loss]), data, _measured_at(config)),
        directory=directory,
    )


def balanced(data: Dataset, samples: int = 0) -> Dataset:
    """The first ``samples`` of each class in their order; 0: as many as the smallest class has.

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


def collapse_metrics(model: Reading, loss: SampleLoss) -> Any:
    """``measure`` of ``train``: neural collapse beside target linearity.

    Its data are a pair, train and test, each of inputs (n, ...) and labels (n,). It returns,
    for each hidden layer (depth,), ``target_linearity`` and what ``neural_collapse`` computes; the
    right side of the exact link, ``link``; and the distance of its sides with rank tolerance
    ``LINK_RTOL``, ``link_error``. Scalars are ``nc3``, ``offset``, ``train_nc4`` and ``test_nc4``
    of the last hidden layer, losses and accuracies.
    """

    def measure(params: Any, hyper: Hyper, data: Any) -> dict[str, Any]:
        del hyper
        on_train, on_test = (layer_sums(model, params, split, loss) for split in data)
        layers = on_train["moments"]
        head = _classifier(params)
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
            **scores(on_train, on_test),
        }

    return measure


def _classifier(params: Any) -> Any:
    """The parameters of the last layer, ``Dense_k`` of the highest k."""
    layers = params["params"]
    return layers[f"Dense_{sum(name.startswith('Dense') for name in layers) - 1}"]


def _mismatch(model: Reading, params: Any, m: Moments, data: tuple[Array, Array]) -> Array:
    """NC4 of ``data`` with the class means of ``m``."""

    def mismatches(batch: tuple[Array, Array]) -> Array:
        logits, features = model.apply(params, batch[0])
        share: Array = nc4_mismatch(m, features[-1], logits.argmax(-1))
        return share.astype(jnp.float32) * len(batch[0])

    total: Array = accumulate(mismatches, data)
    return total / len(data[0])


@in_float64
def between_share(m: Moments, rtol: float | None = None) -> Float[Array, ""]:
    """tr(Σ_T⁻¹Σ_B)/(C − 1) of features (n, d) and one-hot targets (n, C).

    Σ_B is the scatter of the class means about the mean of the samples; Σ_T⁻¹ is a pseudo-inverse,
    of the directions that ``target_linearity`` fits with the same ``rtol``. Moments and solver are
    those of target linearity: that both agree says nothing of either.
    """
    roots = jnp.sqrt(m.count * m.target_mean)
    # Column c of the cross scatter is n_c (μ_c − h̄). Divided by √n_c, the columns M have
    # MMᵀ = Σ_B, and least squares explains tr MᵀΣ_T⁻¹M of targets with this cross scatter.
    scaled = dataclasses.replace(m, cross_scatter=m.cross_scatter / roots[None])
    return least_squares(scaled, rtol=rtol).explained / (len(roots) - 1)
