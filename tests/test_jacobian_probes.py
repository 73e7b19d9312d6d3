"""Jacobian moments from random probes, by hand in NumPy from the same probes."""

import jax
import numpy as np
import pytest

from gramlin_jax import jacobian_moments

RNG = np.random.default_rng(0)
KERNELS = {"in": RNG.normal(size=(4, 6)), "out": RNG.normal(size=(6, 3))}
TOKENS = RNG.normal(size=(7, 2, 4))  # two positions a sample


def network(params, x):
    """Logits (n, 3) of tokens (n, 2, 4): their squared features, summed over positions."""
    return ((x @ params["in"]) ** 2).sum(1) @ params["out"]


@pytest.mark.parametrize("probes", [1, 2, 3], ids="{} probes".format)
def test_moments_of_probes_are_their_definition(probes):
    key = jax.random.key(3)
    u = np.asarray(jax.random.rademacher(key, (probes, 7, 3)), float)
    with jax.enable_x64(True):  # the signs are the same
        found = jacobian_moments(network, KERNELS, TOKENS, probes=probes, key=key)["in"]
    z = TOKENS @ KERNELS["in"]
    # ∂f_c/∂z = 2z ⊙ K_c, so that a probe's δ = Σ_c u_c ∂f_c/∂z, (probes, n, positions, o).
    delta = 2 * z[None] * np.einsum("pnc,oc->pno", u, KERNELS["out"])[:, :, None]
    grams = np.einsum("pnso,pnsq->noq", delta, delta) / probes  # Ĝᵢ
    np.testing.assert_allclose(found.products, grams.sum(0), rtol=1e-11)
    np.testing.assert_allclose(found.squares, (grams**2).sum(), rtol=1e-11)
    np.testing.assert_allclose(found.mean, grams.mean(0), rtol=1e-11)
