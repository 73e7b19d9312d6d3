"""Names, shapes and types of a probe's arrays: whether a state is its own, and where it is not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def check_sums(sums: Any, wanted: Any) -> None:
    """Refuse sums that do not add to those of ``init``."""
    given, wanted = form_of(sums), form_of(wanted)
    for name in {**wanted, **given}:
        here, there = (form.get(name, ("none",))[0] for form in (given, wanted))
        if here != there:
            raise ValueError(
                f"batch gives sums of other shapes than that of init ({name}: {here} and {there}): "
                "wanted positions='mean' or a position, or samples of one shape"
            )


def form_of(tree: Any) -> Any:
    """Names, shapes and types of arrays, to compare."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (jnp.shape(leaf), leaf.dtype)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def misfit(given: dict[str, Any], wanted: dict[str, Any]) -> str:
    """In which arrays a state differs from that of ``init``: its window, or a few by name."""
    (here, there) = (form.get("sums/small", ((),))[0] for form in (given, wanted))
    if here[:-1] != there[:-1]:
        windows = (shape[0] if len(shape) > 1 else None for shape in (here, there))
        return "state has window={}: wanted window={}, as this probe has".format(*windows)
    names = [name for name in {**wanted, **given} if given.get(name) != wanted.get(name)]
    some = sorted(names, key=lambda name: "kernels" not in name)[:4]
    cut = all(name in given and given[name][0] == wanted.get(name, ((),))[0] for name in names)
    return (
        f"state holds {_described(given, some)}: wanted {_described(wanted, some)}, from this "
        "probe's init" + (RESTORE if cut else "")
    )


RESTORE = (
    "; restore it under jax.enable_x64(True), and call jax.tree.map(jnp.asarray, state) there, if "
    "its arrays are NumPy's"
)


def _described(form: dict[str, Any], names: list[str]) -> str:
    each = ((name, *form.get(name, ("none", ""))) for name in names)
    return ", ".join(f"{name} {shape} {dtype}".strip() for name, shape, dtype in each)
