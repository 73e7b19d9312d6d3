"""One training run as pure functions: start, step and epoch of a single network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gramlin_jax.support.checks import check_count, check_function, check_leading_axis
from gramlin_jax.support.conversion import as_jax

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

Hyper: TypeAlias = "Mapping[str, Array]"
Metrics: TypeAlias = "Mapping[str, Array]"
Loss: TypeAlias = "Callable[[Any, Any, Array, Hyper], tuple[Array, Metrics]]"
Optimizer: TypeAlias = (
    "optax.GradientTransformation | Callable[[Hyper], optax.GradientTransformation]"
)


class State(NamedTuple):
    """What training changes.

    Attributes:
        params: The parameters.
        opt_state: The optimiser's state.
    """

    params: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run as pure functions of its hyper-parameters, without an axis of runs.

    ``start``, ``step`` and ``epoch`` work under ``jit``, ``vmap`` and ``lax.map``; ``fit`` is a
    loop over them. Every random number comes from ``hyper["seed"]``, the epoch and the batch.

    Attributes:
        init: ``key -> params``.
        loss: ``(params, batch, key, hyper) -> (scalar, metrics)``, means over the batch.
        optimizer: Any Optax optimiser, or ``hyper -> optimiser``.
        batch_size: Samples in a step of ``epoch``; None: all of them, in their order.
        shuffle: Draw a new order of the samples each epoch.

    Raises:
        ValueError: If ``batch_size`` is not positive; from ``step``, if ``loss`` does not return
            a scalar and metrics.
        TypeError: If ``init`` or ``loss`` is no function.

    Example:
        >>> def loss(params, batch, key, hyper):
        ...     x, y = batch
        ...     return jnp.mean((params["slope"] * x - y) ** 2), {}
        >>> run = Run(lambda key: {"slope": jnp.zeros(())}, loss, optax.sgd(0.1), batch_size=2)
        >>> x, hyper = jnp.arange(4.0), {"seed": 0}
        >>> state = run.start(hyper)
        >>> for epoch in range(20):
        ...     state, metrics = run.epoch(state, (x, 3 * x), hyper, epoch)
        >>> print(f"{state.params['slope']:.3f}")
        3.000
    """

    init: Callable[[Array], Any]
    loss: Loss
    optimizer: Optimizer
    batch_size: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        check_function("init", self.init, "lambda key: params")
        check_function("loss", self.loss, "classification_loss(model.apply)")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)

    def start(self, hyper: Hyper) -> State:
        """The initial parameters, drawn from ``hyper["seed"]``, and the optimiser's state."""
        params = jax.tree.map(_strong, self.init(jax.random.key(hyper["seed"])))
        return State(params, jax.tree.map(_strong, self._optimizer(hyper).init(params)))

    def step(self, state: State, batch: PyTree, key: Array, hyper: Hyper) -> tuple[State, Metrics]:
        """One update on one batch.

        Returns:
            The new state; the metrics of ``loss`` and ``loss`` itself, before the update.
        """
        grad = jax.value_and_grad(self.checked_loss, has_aux=True)
        (loss, metrics), gradient = grad(state.params, batch, key, hyper)
        state = self.update(state, loss, gradient, (batch, key, hyper))
        return state, {**metrics, "loss": loss}

    def update(
        self, state: State, loss: Array, gradient: PyTree, where: tuple[PyTree, Array, Hyper]
    ) -> State:
        """The optimiser's update.

        Args:
            state: Before it.
            loss: Of the batch.
            gradient: Of the batch.
            where: The batch, its key and the hyper-parameters, with which the loss was taken.
        """
        updates, opt_state = self._optimizer(where[2]).update(
            gradient,
            state.opt_state,
            state.params,
            value=loss,  # these three are for line searches and schedules of the loss
            grad=gradient,
            value_fn=lambda params: self.checked_loss(params, *where)[0],
        )
        return State(optax.apply_updates(state.params, updates), opt_state)

    def epoch(
        self, state: State, data: PyTree, hyper: Hyper, epoch: int | Array
    ) -> tuple[State, Metrics]:
        """One pass over ``data``: a scan over its batches, and then the shorter last one.

        Args:
            state: From ``start`` or the epoch before.
            data: Pytree of arrays (n, ...).
            hyper: The run's scalars, ``seed`` among them.
            epoch: Epochs before this one; the order of the samples and all keys follow from it.

        Returns:
            The new state; the means of the metrics over samples, each taken before its update.

        Raises:
            ValueError: If ``data`` is empty, not of equal lengths, or not held by JAX's types.
            TypeError: If ``data`` holds no numbers.
        """
        n = check_leading_axis("data", data)
        data = as_jax("data", data)  # NumPy's cannot be indexed by what is traced
        size = min(self.batch_size or n, n)
        if size == n:
            return self.step(state, data, self.batch_key(hyper, epoch, 0), hyper)
        order = jnp.arange(n)
        if self.shuffle:
            order = jax.random.permutation(_epoch_keys(hyper, epoch)[0], n)
        whole, rest = divmod(n, size)

        def step(state: State, at: tuple[Array, Array]) -> tuple[State, Metrics]:
            rows, batch = at
            key = self.batch_key(hyper, epoch, batch)
            return self.step(state, jax.tree.map(lambda a: a[rows], data), key, hyper)

        rows = order[: whole * size].reshape(whole, size)
        state, metrics = lax.scan(step, state, (rows, jnp.arange(whole)))
        metrics = jax.tree.map(lambda m: m.mean(0), metrics)
        if rest:
            share = rest / n
            state, last = step(state, (order[-rest:], jnp.int32(whole)))
            metrics = jax.tree.map(lambda a, b: (1 - share) * a + share * b, metrics, last)
        return state, metrics

    def batch_key(self, hyper: Hyper, epoch: int | Array, batch: int | Array) -> Array:
        """The key that ``loss`` receives for a batch; all batches of all epochs differ."""
        return jax.random.fold_in(_epoch_keys(hyper, epoch)[1], batch)

    def checked_loss(self, *args: Any) -> tuple[Array, Metrics]:
        """``loss``, refused if it returns anything but a scalar and a dict without ``loss``."""
        value = self.loss(*args)
        shapes = jax.tree.map(jnp.shape, value)
        pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping)
        if not pair or any(shape != () for shape in (shapes[0], *shapes[1].values())):
            raise ValueError(f"loss returned shapes {shapes}: wanted (scalar, dict of scalars)")
        if "loss" in value[1]:
            raise ValueError(
                "loss returned a metric 'loss': wanted another name, this is the loss itself"
            )
        return value

    def _optimizer(self, hyper: Hyper) -> optax.GradientTransformationExtraArgs:
        given: Any = self.optimizer
        made = given if hasattr(given, "update") or not callable(given) else given(hyper)
        if not hasattr(made, "update"):
            raise TypeError(f"optimizer gives {made!r}: wanted one of Optax's, or hyper -> one")
        if isinstance(made, optax.MultiSteps):  # it passes arguments on, which Optax does not see
            return optax.GradientTransformationExtraArgs(made.init, made.update)
        return optax.with_extra_args_support(made)


def _strong(leaf: Any) -> Any:
    """A leaf whose type is weak, as a Python number's, in the type that an update gives it.

    Else the first epoch would be compiled for a type of its own.
    """
    kind = jax.typeof(leaf)
    return lax.convert_element_type(leaf, kind.dtype) if kind.weak_type else leaf


def _epoch_keys(hyper: Hyper, epoch: int | Array) -> tuple[Array, Array]:
    """The key of the samples' order and the one of the batches; epoch 0 is not ``init``'s key."""
    order, batches = jax.random.split(jax.random.fold_in(jax.random.key(hyper["seed"]), epoch + 1))
    return order, batches
