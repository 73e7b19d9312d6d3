"""Gradient moments of every layer, against gradients alone and against per-sample gradients.

Each form of the virtual covariance runs in a fresh process, ``python -m benchmarks.taps FORM DATA
RESULT``, which writes the matrices and prints the time and memory they took.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import (
    CLASSES,
    IMAGE,
    images,
    in_fresh_process,
    memory,
    print_table,
    seconds,
    timed_fit,
    with_medians,
)
from gramlin_jax import (
    GradientMoments,
    accumulate,
    backward,
    gradient_moments,
    measure,
    moments,
    virtual_covariance,
    virtual_covariance_of,
)
from gramlin_jax._moments.gradients import reduce_gradients
from gramlin_jax.models import DNN
from gramlin_jax.support.precision import in_float64

if TYPE_CHECKING:
    from jaxtyping import Array

DEPTH, HIDDEN = 4, 256
BATCH = 1000  # samples at a time of a streaming pass
DIGITS = 784  # numbers in an image of MNIST
LEARNING_RATE = 0.01
TRUTH = "products"  # the form that the others are compared with: no difference of covariances


def run(
    dnns: Sequence[tuple[int, int]],
    convolutions: int,
    transformer: tuple[int, int],
    measured: tuple[int, int],
    covariances: int,
    rounds: int,
) -> None:
    """Print cost, memory and compilations of moments; a pass over an epoch; virtual covariances.

    Args:
        dnns: Inputs and samples of each fully connected network.
        convolutions: Samples of the convolutional network.
        transformer: Blocks and samples of the transformer.
        measured: Samples and width of the pass over an epoch.
        covariances: Samples of the virtual covariances.
        rounds: In which the forms take turns; three times as many of short ones.
    """
    networks = _networks(dnns, convolutions, transformer)
    _print_cost(networks, 3 * rounds)
    _print_memory(networks)
    _print_compilations(networks)
    _print_pass(*measured, rounds)
    _print_virtual_covariances(covariances, rounds)


class Transformer(nn.Module):
    """A small vision transformer: patches 4×4, width 128, blocks of 4 heads and 512 units."""

    blocks: int = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Logits (n, classes) of images (n, 32, 32, 3)."""
        h = nn.Conv(128, (4, 4), strides=4, padding="VALID")(x).reshape(len(x), -1, 128)
        h += self.param("positions", nn.initializers.normal(0.02), (1, *h.shape[1:]))
        for _ in range(self.blocks):
            h += nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(h))
            h += nn.Dense(128)(nn.gelu(nn.Dense(512)(nn.LayerNorm()(h))))
        return nn.Dense(CLASSES)(nn.LayerNorm()(h).mean(1))


class Convolutions(nn.Module):
    """Three convolutions 3×3 of 16, 32 and 64 channels, each with ReLU and max pooling."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Logits (n, classes) of images (n, 32, 32, 3)."""
        for channels in (16, 32, 64):
            x = nn.max_pool(nn.relu(nn.Conv(channels, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


class Network(NamedTuple):
    """A function of parameters and images, and batches for it."""

    name: str
    f: Callable[[Any, Array], Array]
    params: Any
    shape: tuple[int, ...]
    n: int

    def arguments(self, times: int = 1) -> tuple[Any, Array, Array]:
        """Parameters, ``times`` n images and their labels."""
        n = times * self.n
        keys = jax.random.split(jax.random.key(1))
        images = jax.random.normal(keys[0], (n, *self.shape))
        return self.params, images, jax.random.randint(keys[1], (n,), 0, CLASSES)


def _networks(
    dnns: Sequence[tuple[int, int]], convolutions: int, transformer: tuple[int, int]
) -> list[Network]:
    image, dnn = (32, 32, 3), DNN(HIDDEN, DEPTH, CLASSES)
    blocks, n = transformer
    table = [
        *(
            (f"DNN {DEPTH}x{HIDDEN}, {d}", lambda p, x: dnn.apply(p, x)[0], dnn, (d,), n)
            for d, n in dnns
        ),
        ("convolutions", Convolutions().apply, Convolutions(), image, convolutions),
        ("transformer", Transformer(blocks).apply, Transformer(blocks), image, n),
    ]
    return [
        Network(name, f, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape))), shape, n)
        for name, f, model, shape, n in table
    ]


def _loss(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _gradients(f: Callable) -> Callable:
    """What a training step computes: the loss and its gradient."""
    return jax.value_and_grad(lambda params, x, labels: _loss(f(params, x), labels))


def _moments(f: Callable) -> Callable:
    return lambda params, x, labels: gradient_moments(
        f, params, x, loss=lambda logits: _loss(logits, labels)
    )


def _with_features(f: Callable) -> Callable:
    """Gradient moments, and those of the hidden features (their mean over positions) and labels."""

    def both(params: Any, x: Array, labels: Array) -> Any:
        passed = backward(f, params, x, loss=lambda logits: _loss(logits, labels))
        targets = jax.nn.one_hot(labels, CLASSES)
        _, *hidden = passed.taps.values()
        rows = [h.features.reshape(len(x), -1, h.features.shape[-1]).mean(1) for h in hidden]
        return reduce_gradients(passed, len(x)), [moments(h, targets) for h in rows]

    return both


FORMS = {"gradients": _gradients, "moments": _moments, "features too": _with_features}


def _print_cost(networks: Sequence[Network], rounds: int) -> None:
    """Time of each form, in turns; a round takes the best of three calls."""
    rows = []
    for network in networks:
        arguments = network.arguments()
        forms = [jax.jit(form(network.f)) for form in FORMS.values()]
        jax.block_until_ready([form(*arguments) for form in forms])
        taken = [
            np.min([[seconds(lambda: f(*arguments)) for f in forms] for _ in range(3)], 0)  # noqa: B023
            for _ in range(rounds)
        ]
        ratio = np.array(taken) / np.array(taken)[:, :1]
        rows.append(
            [
                network.name,
                network.n,
                *(f"{1e3 * t:.1f}" for t in np.median(taken, 0)),
                *(f"{np.median(r):.2f} (min {r.min():.2f})" for r in ratio.T[1:]),
            ]
        )
    print_table(
        "Forward and backward, without and with moments (goal: a ratio of at most 1.5)",
        ["network", "n", *(f"{name} ms" for name in FORMS), "moments /", "features too /"],
        rows,
    )


def _print_memory(networks: Sequence[Network]) -> None:
    """What XLA plans for; the largest layer's (i, o) and (o, o) float64 bound what comes out."""
    rows = []
    for network in networks:
        for times in (1, 4):
            sizes = [
                jax.jit(FORMS[name](network.f))
                .lower(*network.arguments(times))
                .compile()
                .memory_analysis()
                for name in ("gradients", "moments")
            ]
            columns = [
                [getattr(size, f"{kind}_size_in_bytes") / 1e6 for size in sizes]
                for kind in ("temp", "output")
            ]
            rows.append(
                [
                    network.name,
                    times * network.n,
                    f"{sizes[0].argument_size_in_bytes / 1e6:.1f}",
                    *(f"{mb:.1f}" for column in columns for mb in column),
                    f"{columns[0][1] - columns[0][0]:+.1f}",
                ]
            )
    print_table(
        "Memory of the compiled function, MB (goal: output and extra do not grow with n)",
        ["network", "n", "arguments", "temporary: gradients", "moments", "output: gradients",
         "moments", "extra temporary"],
        rows,
    )  # fmt: skip


def _print_compilations(networks: Sequence[Network]) -> None:
    """How often f is traced, and how long the first call takes beyond the second."""
    rows = []
    for network in networks:
        for name in ("gradients", "moments"):
            traces = 0

            def counted(params: Any, x: Array, f: Any = network.f) -> Array:
                nonlocal traces
                traces += 1
                return f(params, x)

            form, counts = jax.jit(FORMS[name](counted)), []
            params, x, labels = network.arguments()
            first, second = (seconds(lambda: form(params, x, labels)) for _ in range(2))  # noqa: B023
            counts.append(traces)
            form(params, x + 1, labels)
            counts.append(traces)
            form(params, x[1:], labels[1:])
            counts.append(traces)
            rows.append([network.name, network.n, name, f"{first - second:.2f}", *counts])
    print_table(
        "Compilation, and traces of f",
        ["network", "n", "form", "compile s", "2 calls", "other data", "other n"],
        rows,
    )


def _print_pass(n: int, width: int, rounds: int) -> None:
    """A pass over n images, gradients and features of all layers, over an epoch of training."""
    model, data = DNN(width, DEPTH, CLASSES), images(n)
    x, labels = jax.tree.map(jnp.asarray, data)
    params = model.init(jax.random.key(0), x[:1])

    def f(params: Any, x: Array) -> Array:
        return model.apply(params, x)[0]

    both = _with_features(f)
    hidden = jax.jit(
        lambda params, x, labels: accumulate(
            lambda rows: both(params, *rows), (x, labels), batch_size=BATCH
        )
    )

    def measured(**options: Any) -> Any:
        return measure(f, params, (x, labels), loss=_loss, batch_size=BATCH, **options).metrics

    passes: dict[str, Callable[[], Any]] = {
        "hidden": lambda: hidden(params, x, labels),
        "input to 256": lambda: measured(metrics=(), width_limit=256),
        "input to 1024": lambda: measured(metrics=()),
        "and metrics": measured,
    }
    for function in passes.values():
        jax.block_until_ready(function())
    rows = []
    for _ in range(rounds):
        epoch = timed_fit(model, data, epochs=3, batch_size=64)[1].epoch
        taken = [min(seconds(function) for _ in range(2)) for function in passes.values()]
        rows.append([epoch, *taken, *(t / epoch for t in taken)])
    print_table(
        f"A measurement of {n} x {IMAGE}, DNN {DEPTH}x{width}, over an epoch of batch 64 (target: "
        "a ratio of at most 1.5). Features: hidden alone; the input too, reduced to 256 or 1024",
        ["round", "epoch s", *(f"{name} s" for name in passes), *(f"{name} /" for name in passes)],
        with_medians(rows, (*["{:.3f}"] * (1 + len(passes)), *["{:.2f}"] * len(passes))),
    )


def _print_virtual_covariances(n: int, rounds: int) -> None:
    forms = [form for form in COVARIANCES if form != TRUTH]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        x, labels = images(n, DIGITS)
        np.savez(data, x=x, labels=labels)
        results = {form: Path(folder) / f"{form}.npz" for form in COVARIANCES}
        in_fresh_process("taps", TRUTH, data, results[TRUTH])
        taken = [
            {form: in_fresh_process("taps", form, data, results[form]) for form in forms}
            for _ in range(rounds)
        ]
        truth = np.load(results[TRUTH])
        rows = []
        for form in forms:
            cost = {k: np.median([t[form][k] for t in taken]) for k in taken[0][form]}
            found = np.load(results[form])
            error = [abs(found[k] - truth[k]).max() / abs(truth[k]).max() for k in truth.files]
            rows.append(
                [
                    form,
                    *(f"{cost[k]:.2f}" for k in ("seconds", "compile")),
                    *(f"{cost[k]:.0f}" for k in ("beyond", "total")),
                    f"{max(error):.0e}",
                ]
            )
    print_table(
        f"Virtual covariances of all layers, {n} samples, DNN {DIGITS}-{HIDDEN}x{DEPTH}-{CLASSES}. "
        "Error: of the worst layer, over its largest entry, from sums of products in float64",
        ["form", "s", "compile s", "MB beyond data", "MB total", "error"],
        rows,
    )


def _main(form: str, data: str, result: str) -> None:
    """Write the virtual covariances by layer; print, as JSON, what they took."""
    arrays = np.load(data)
    x, labels = jnp.asarray(arrays["x"]), jnp.asarray(arrays["labels"])
    model = DNN(HIDDEN, DEPTH, CLASSES)
    params = jax.jit(model.init)(jax.random.key(0), x[:1])
    form_of = COVARIANCES[form](lambda params, x: model.apply(params, x)[0])
    before = memory(reset=True)["VmRSS"]
    first, *times = (seconds(lambda: form_of(params, x, labels)) for _ in range(4))
    peak = memory()["VmHWM"]
    found = form_of(params, x, labels)
    np.savez(result, **{name.replace("/", "."): np.asarray(c) for name, c in found.items()})
    taken = {"seconds": np.median(times), "compile": first - np.median(times)}
    print(json.dumps({**taken, "beyond": peak - before, "total": peak}))


def _by_moments(f: Callable) -> Callable[..., dict[str, Array]]:
    """All layers from one backward pass over all samples."""
    return jax.jit(lambda params, *batch: _covariances(params, _moments(f)(params, *batch)))


def _by_streaming(f: Callable) -> Callable[..., dict[str, Array]]:
    """The same, a batch of samples after another."""

    def stream(params: Any, *data: Array) -> dict[str, Array]:
        sums = accumulate(lambda rows: _moments(f)(params, *rows), data, batch_size=BATCH)
        return _covariances(params, sums)

    return jax.jit(stream)


def _covariances(params: Any, sums: dict[str, GradientMoments]) -> dict[str, Array]:
    kernels = {name: params["params"][name.split("/")[1]]["kernel"] for name in sums}
    return {name: virtual_covariance(kernels[name], sums[name], LEARNING_RATE) for name in sums}


def _by_rows(covariance: Callable[[Any, Any], Any]) -> Callable[[Callable], Callable]:
    """A form with the inputs X (n, i) and input gradients g (n, i) of each layer in memory."""

    def of(f: Callable) -> Callable[..., dict[str, Array]]:
        def rows(params: Any, x: Array, labels: Array) -> dict[str, tuple[Any, Array]]:
            passed = backward(f, params, x, loss=lambda logits: _loss(logits, labels))
            delta = passed.output_gradients
            return {name: (t.inputs, delta[name] @ t.kernel.T) for name, t in passed.taps.items()}

        compiled = jax.jit(rows)
        return lambda *args: {name: covariance(*pair) for name, pair in compiled(*args).items()}

    return of


def _difference(x: Any, g: Any) -> Any:
    moved = x - LEARNING_RATE * g
    return moved.T @ moved - x.T @ x


@jax.jit
def _plainly_in_jax(x: Array, g: Array) -> Array:
    return _difference(*(a.astype(jnp.float64) for a in (x, g)))


def _plainly_in_numpy(x: Array, g: Array) -> np.ndarray:
    return _difference(*(np.asarray(a, np.float64) for a in (x, g)))


COVARIANCES = {
    "moments": _by_moments,
    "streaming": _by_streaming,
    "plain jax": _by_rows(in_float64(_plainly_in_jax)),
    "plain numpy": _by_rows(_plainly_in_numpy),
    "plain float32": _by_rows(jax.jit(_difference)),
    TRUTH: _by_rows(lambda x, g: virtual_covariance_of(x, g, LEARNING_RATE)),
}

if __name__ == "__main__":
    _main(*sys.argv[1:])
