"""The versions that a run's last bits depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import jax


def versions() -> dict[str, str]:
    """Of Python, of the packages that calculate, and the kind of device."""
    import gramlin_jax  # which imports this package

    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        "gramlin_jax": gramlin_jax.__version__,
        **{package: version(package) for package in packages},
        "device": jax.devices()[0].device_kind,
    }
