"""Atomic Orbax checkpoints that refuse to resume a run of another configuration."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from gramlin_jax.support.files import claim_folder


class Checkpoints:
    """The newest two checkpoints of a run in a folder, beside its configuration.

    Args:
        directory: The folder, made if it is absent.
        like: A tree of arrays as it will be saved; its paths, shapes and types have to agree.
        configuration: What else has to be the same for a run to go on; plain JSON values.
        interval: Least seconds between two checkpoints.

    Raises:
        ValueError: If the folder holds a run of another configuration; it is left as it is.
    """

    def __init__(
        self,
        directory: str | Path,
        like: Any,
        configuration: dict[str, Any],
        *,
        interval: float = 30.0,
    ) -> None:
        self._directory = Path(directory).absolute()
        self._like, self._interval, self._saved = like, interval, time.monotonic()
        import orbax.checkpoint as ocp

        arrays = {name: f"{a.dtype}{list(a.shape)}" for name, a in _named(like).items()}
        claim_folder(self._directory, {**configuration, "arrays": arrays})
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._directory / "checkpoints", options=options)

    def restore(self) -> tuple[int, Any]:
        """The step and the tree of the newest checkpoint; (0, ``like``) if there is none.

        Raises:
            ValueError: If that checkpoint cannot be read; it is left as it is.
        """
        step = self._manager.latest_step()
        if step is None:
            return 0, self._like
        import orbax.checkpoint as ocp

        try:
            with _quiet(), jax.enable_x64(True):  # or float64 comes back as float32
                restored = self._manager.restore(
                    step, args=ocp.args.StandardRestore(_named(self._like))
                )
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise ValueError(
                f"the checkpoint {self._manager.directory / str(step)} is truncated or damaged "
                f"({type(error).__name__}): move it away to go on from the one before it, or "
                f"{self._directory} to start again; nothing was changed"
            ) from error
        leaves, structure = jax.tree_util.tree_flatten_with_path(self._like)
        named = [restored.get(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
        return step, jax.tree.unflatten(structure, named)

    def save(self, step: int, tree: Any, *, last: bool = False) -> None:
        """Keep ``tree`` if it is ``last``, or ``interval`` seconds after the one before."""
        now = time.monotonic()
        if not last and now - self._saved < self._interval:
            return
        import orbax.checkpoint as ocp

        with _quiet(), jax.enable_x64(True):
            self._manager.save(step, args=ocp.args.StandardSave(_named(tree)))
        self._saved = now


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax from reporting each save, and asyncio each part of a damaged checkpoint."""
    loggers = {logging.getLogger("absl"): logging.ERROR}
    loggers[logging.getLogger("asyncio")] = logging.CRITICAL
    levels = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves by their paths, without empty arrays, which orbax does not keep."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.size}
