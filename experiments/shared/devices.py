"""The devices over which an experiment spreads its networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from jax.sharding import Mesh

MESH: ContextVar[Mesh | None] = ContextVar("mesh", default=None)
"""The devices that may be used; ``Experiment.run`` sets it. None: JAX's default device."""


@contextlib.contextmanager
def spread_over(mesh: Mesh | None) -> Iterator[None]:
    """Let the experiment that runs inside use the devices of a mesh."""
    token = MESH.set(mesh)
    try:
        yield
    finally:
        MESH.reset(token)


def mesh_for(networks: int) -> Mesh | None:
    """As many of the devices as can take an equal share of the networks; None: the default one."""
    devices = [] if (mesh := MESH.get()) is None else list(mesh.devices.flat)
    used = max((n for n in range(1, len(devices) + 1) if networks % n == 0), default=1)
    return None if used == 1 else Mesh(devices[:used], "networks")
