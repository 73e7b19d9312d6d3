"""Docstring examples run, and no function hides a module."""

import doctest
import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gramlin_jax

NAMES = [info.name for info in pkgutil.walk_packages(gramlin_jax.__path__, "gramlin_jax.")]
MODULES = {name: importlib.import_module(name) for name in ["gramlin_jax", *NAMES]}
PACKAGES = {name: module for name, module in MODULES.items() if hasattr(module, "__path__")}
COMMON = {"jax": jax, "jnp": jnp, "nn": nn, "np": np, "optax": optax}


def public(package):
    return {name: getattr(package, name) for name in getattr(package, "__all__", ())}


def examples():
    """Examples by the name of their function or class.

    Besides its module's names, an example may use every public one. Decorated functions have the
    globals of their decorator, so that ``doctest`` alone would miss them.
    """
    finder = doctest.DocTestFinder()
    imported = {
        name: value for package in PACKAGES.values() for name, value in public(package).items()
    }
    for module_name, module in MODULES.items():
        scope = {**COMMON, **imported, **vars(module)}
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", None) == module_name:
                found = finder.find(value, f"{module_name}.{name}", module=False, globs=scope)
                yield from ((test.name, test) for test in found if test.examples)


EXAMPLES = dict(examples())


@pytest.mark.docs
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name):
    report = []
    doctest.DocTestRunner(verbose=False).run(EXAMPLES[name], out=report.append)
    assert not report, "".join(report)


def functions(owner):
    """Public functions of a package or module, by name."""
    module = MODULES[owner]
    names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
    found = {name: getattr(module, name) for name in names}
    return {
        n: f for n, f in found.items() if inspect.isfunction(f) and f.__module__.startswith(owner)
    }


OWNERS = [
    "gramlin_jax",
    *(f"gramlin_jax.{name}" for name in ("data", "metrics", "models", "optim")),
]


@pytest.mark.parametrize("owner", OWNERS)
def test_public_functions_have_examples(owner):
    assert functions(owner)
    missing = [n for n, f in functions(owner).items() if f"{f.__module__}.{n}" not in EXAMPLES]
    assert not missing


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_hides_a_module(package):
    """``import gramlin_jax.X as m`` gives the module wherever there is one."""
    for info in pkgutil.iter_modules(PACKAGES[package].__path__):
        assert inspect.ismodule(getattr(PACKAGES[package], info.name)), f"{package}.{info.name}"
