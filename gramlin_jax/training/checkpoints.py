"""Atomic Orbax checkpoints that refuse to resume a run of another configuration."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gramlin_jax.support.files import check_folder, claim_folder, is_in_use, running
from gramlin_jax.support.fingerprints import checksum
from gramlin_jax.training.identity import Programs, claim_programs

_FORMAT = 2  # 1 had no checksums


class Checkpoints:
    """The newest two checkpoints of a run in a folder, beside its configuration.

    The folder is locked until ``close``. Each checkpoint holds its step and a checksum of every
    array.

    Args:
        directory: The folder, made if it is absent.
        like: A tree of arrays as it will be saved; its paths, shapes and types have to agree.
        configuration: What else has to be the same for a run to go on; plain JSON values.
        programs: The run's functions, which have to be the same too.
        interval: Least seconds between two checkpoints.

    Raises:
        ValueError: If the folder holds a run of another configuration, or another process uses
            it; it is left as it is.
    """

    def __init__(
        self,
        directory: str | Path,
        like: Any,
        configuration: dict[str, Any],
        programs: Programs,
        *,
        interval: float = 30.0,
    ) -> None:
        self._directory = Path(directory).expanduser().absolute()
        self._like, self._interval, self._saved = like, interval, time.monotonic()
        arrays = {name: f"{a.dtype}{list(a.shape)}" for name, a in _named(like).items()}
        configuration = {**configuration, "format": _FORMAT, "arrays": arrays}
        if is_in_use(self._directory):  # refuse before a lock file is made in it
            check_folder(self._directory, configuration)
        with contextlib.ExitStack() as stack:
            stack.enter_context(running(self._directory))
            claim_folder(self._directory, configuration)
            claim_programs(self._directory, programs)
            self._manager = _manager(self._directory / "checkpoints")
            stack.callback(self._manager.close)
            self._held = stack.pop_all()

    def close(self) -> None:
        """Unlock the folder."""
        self._held.close()

    def restore(self) -> tuple[int, Any]:
        """The step and the tree of the newest checkpoint; (0, ``like``) if there is none.

        Raises:
            OSError: If a file of that checkpoint cannot be opened.
            ValueError: If that checkpoint is damaged, or of another step; it is left as it is.
        """
        step = self._manager.latest_step()
        if step is None:
            return 0, self._like
        folder = self._directory / "checkpoints" / str(step)
        for file in folder.rglob("*"):
            if file.is_file():
                file.open("rb").close()  # a file that one may not read is not damaged
        restored = self._read(step, folder)
        if restored.pop("step")[0] != step:
            raise ValueError(f"{folder} is a checkpoint of another step: wanted the name it had")
        leaves, structure = jax.tree_util.tree_flatten_with_path(self._like)
        named = [restored.get(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
        return step, jax.tree.unflatten(structure, named)

    def save(self, step: int, tree: Any, *, last: bool = False) -> None:
        """Keep ``tree`` if it is ``last``, or ``interval`` seconds after the one before.

        That of a step that is kept already, or of step 0, is not.

        Raises:
            OSError: If it cannot be written, as on a full disk; the one before it stays.
        """
        now = time.monotonic()
        if not last and now - self._saved < self._interval:
            return
        if step == (self._manager.latest_step() or 0):
            return
        import orbax.checkpoint as ocp

        try:
            with _quiet(), jax.enable_x64(True):
                self._manager.save(step, args=ocp.args.StandardSave(_sealed(step, tree)))
        except Exception as error:  # a full disk is hundreds of lines of orbax's own
            raise OSError(
                f"checkpoint {step} in {self._manager.directory} cannot be written "
                f"({_reason(error)}); the same run goes on from the one before it"
            ) from None
        self._saved = now

    def _read(self, step: int, folder: Path) -> dict[str, Any]:
        """The arrays of a checkpoint by their paths, and its step; checksums are compared."""
        import orbax.checkpoint as ocp

        like = _sealed(step, self._like)
        try:
            with _quiet(), jax.enable_x64(True):  # or float64 comes back as float32
                restored = self._manager.restore(step, args=ocp.args.StandardRestore(like))
            kept = np.asarray(restored.pop("checksums"))
            for value, name in zip(kept, sorted(restored), strict=True):
                if checksum(restored[name]) != value:
                    raise ValueError(f"the checksum of {name} is not the one that was saved")
        except Exception as error:  # orbax and tensorstore raise many kinds
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise ValueError(
                f"the checkpoint {folder} is truncated or damaged ({_reason(error)}): move it away "
                f"to go on from the one before it, or {self._directory} to start again; nothing "
                "was changed"
            ) from error
        return restored


def _manager(folder: Path) -> Any:
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    with _quiet():
        return ocp.CheckpointManager(folder, options=options)


def _sealed(step: int, tree: Any) -> dict[str, Any]:
    """What is saved: the arrays by their paths, the step, and the checksums in order of names."""
    named = {**_named(tree), "step": np.array([step])}
    sums = [checksum(named[name]) for name in sorted(named)]
    return {**named, "checksums": np.array(sums, np.uint32)}


def _reason(error: Exception) -> str:
    """The kind of an error and its first line, in which a full disk is far behind."""
    if "No space left on device" in str(error):
        return "no space left on device"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax from reporting each save, and each part of a checkpoint that fails.

    Parts that are under way when one fails report once they are collected, here at the latest.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        sys.unraisablehook = lambda _: None
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves by their paths, without empty arrays, which orbax does not keep."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.size}
