"""Synthetic data sets for regression and classification, drawn from a seed."""

from __future__ import annotations

import numpy as np

from gramlin_jax.data.dataset import Dataset
from gramlin_jax.support.checks import check_count, check_number


def swiss_roll(n: int = 1000, noise: float = 0.0, seed: int = 0) -> Dataset:
    """The swiss roll seen along its axis, with the angle as the target.

    t = 1.5π(1 + 2u), u ~ U(0, 1); x = (t cos t, t sin t) + noise·N(0, 1). Then t and each column of
    x are scaled to [0, 1] by their minimum and maximum. The points are columns 0 and 2 of
    scikit-learn's ``make_swiss_roll(n, noise=noise, random_state=seed)``, bit for bit before the
    rounding to float32. Figure 1 of the paper has n = 1000, noise 0, seed 0.

    Args:
        n: Number of samples.
        noise: Standard deviation of the noise.
        seed: Of the draws.

    Returns:
        Dataset with x (n, 2) and y (n, 1) float32, both in [0, 1].

    Raises:
        ValueError: If n < 2 or noise < 0.

    Source: arXiv 2605.06258, figure 1; scikit-learn's ``make_swiss_roll``.

    Example:
        >>> roll = swiss_roll(100)
        >>> roll.x.shape, roll.y.shape, float(roll.x.min()), float(roll.x.max())
        ((100, 2), (100, 1), 0.0, 1.0)
    """
    check_count("n", n, 2)
    check_number("noise", noise)
    if not noise >= 0:
        raise ValueError(f"noise is {noise}: wanted a standard deviation, at least 0")
    random = np.random.RandomState(seed)
    t = 1.5 * np.pi * (1 + 2 * random.uniform(size=n))
    random.uniform(size=n)  # scikit-learn draws the third coordinate before the noise
    x = np.stack([t * np.cos(t), t * np.sin(t)], axis=1)
    x += noise * random.standard_normal(size=(3, n))[[0, 2]].T
    return Dataset(
        x=_scaled(x),
        y=_scaled(t[:, None]),
        num_classes=None,
        name="swiss_roll",
        split="all",
        source=f"computed: n {n}, noise {noise}, seed {seed}",
    )


def staircase_target(x: np.ndarray) -> np.ndarray:
    """The staircase function y = x₁x₂x₃x₄ + x₁x₂x₃ + x₁x₂ + x₁, from (n, d ≥ 4) to (n, 1).

    Raises:
        ValueError: If x is not (n, d) with d ≥ 4.

    Source: Abbe et al., arXiv:2202.08658 (for inputs ±1; here any).

    Example:
        >>> staircase_target(np.array([[1.0, 2, 3, 4]])).tolist()
        [[33.0]]
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] < 4:
        raise ValueError(f"x has shape {x.shape}: wanted (n, d) with d at least 4")
    return np.cumprod(x[:, :4], axis=1).sum(axis=1, keepdims=True)


def staircase(n: int = 1000, dimension: int = 10, seed: int = 0) -> Dataset:
    """Standard normal inputs, and the staircase function of their first four coordinates.

    Returns:
        Dataset with x (n, dimension) and y (n, 1) float32.

    Raises:
        ValueError: If n < 1 or dimension < 4.

    Source: arXiv 2605.06258, figure 8; Abbe et al., arXiv:2202.08658.

    Example:
        >>> data = staircase(50)
        >>> data.x.shape, bool((data.y == staircase_target(data.x)).all())
        ((50, 10), True)
    """
    check_count("n", n)
    check_count("dimension", dimension, 4)
    x = np.random.RandomState(seed).standard_normal((n, dimension)).astype(np.float32)
    return Dataset(
        x=x,
        y=staircase_target(x),
        num_classes=None,
        name="staircase",
        split="all",
        source=f"computed: n {n}, dimension {dimension}, seed {seed}",
    )


def quadratic_from_draws(
    mixing: np.ndarray,
    latents: np.ndarray,
    noise: np.ndarray,
    form: np.ndarray,
    *,
    noise_scale: float = 0.1,
    num_classes: int | None = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """A quadratic form on noisy, low-dimensional points of the unit sphere: q = xᵀSx.

    Rows x = r/‖r‖ with r = latents·mixing + noise_scale·noise. S is the symmetric part of ``form``,
    with tr(form)/d subtracted from *every entry*, not only from the diagonal: tr S = 0 as well, and
    the paper's reference implementation does the same.

    Args:
        mixing: C (r, d), from the latent space to the input space.
        latents: Z (n, r).
        noise: (n, d).
        form: A (d, d), symmetric or not.
        noise_scale: Factor of the noise.
        num_classes: C for labels, or None for regression.

    Returns:
        x (n, d) float32, and y. For classification y (n,) int32 numbers the C quantile intervals
        of q, so classes are balanced; for regression y = max(q, 0) (n, 1) float32.

    Raises:
        ValueError: If shapes do not match, num_classes < 2, or a row r is zero or not finite.

    Source: the reference implementation of arXiv 2605.06258.

    Example:
        >>> draws = [np.eye(2), np.array([[1.0, 0], [0, 1], [1, 1], [1, -1]]), np.zeros((4, 2))]
        >>> quadratic_from_draws(*draws, form=np.diag([1.0, 0]), num_classes=2)[1].tolist()
        [1, 0, 0, 1]
    """
    shapes = {"mixing": mixing.shape, "latents": latents.shape, "noise": noise.shape}
    n, d = noise.shape if noise.ndim == 2 else (-1, -1)
    if latents.shape != (n, len(mixing)) or mixing.shape[1:] != (d,) or form.shape != (d, d):
        raise ValueError(
            f"form has shape {form.shape} with {shapes}: wanted mixing (r, d), latents (n, r), "
            "noise (n, d) and form (d, d)"
        )
    check_number("noise_scale", noise_scale)
    if num_classes is not None:
        check_count("num_classes", num_classes, 2)
    x = latents @ mixing + noise_scale * noise
    if not (np.isfinite(x).all() and x.any(1).all()):
        raise ValueError(
            "latents·mixing + noise_scale·noise has a row that is zero or not finite: wanted rows "
            "with a direction"
        )
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    symmetric = (form + form.T) / 2 - np.trace(form) / d
    q = np.einsum("ni,ij,nj->n", x, symmetric, x, optimize=True)
    if num_classes is None:
        return x.astype(np.float32), np.maximum(q, 0)[:, None].astype(np.float32)
    edges = np.quantile(q, np.arange(1, num_classes) / num_classes)
    return x.astype(np.float32), np.searchsorted(edges, q).astype(np.int32)


def quadratic(
    n: int = 400,
    dimension: int = 20,
    latent_dimension: int = 5,
    *,
    noise_scale: float = 0.1,
    num_classes: int | None = 4,
    seed: int = 0,
) -> Dataset:
    """``quadratic_from_draws`` with standard normal draws.

    Returns:
        Dataset with unit rows x (n, dimension) float32, and labels y (n,) int32 of balanced
        classes, or targets (n, 1) float32 if num_classes is None.

    Raises:
        ValueError: If a size is below 1, or num_classes < 2 or above n.

    Source: the reference implementation of arXiv 2605.06258.

    Example:
        >>> np.bincount(quadratic(400).y).tolist()
        [100, 100, 100, 100]
    """
    sizes = {"n": n, "dimension": dimension, "latent_dimension": latent_dimension}
    for name, size in sizes.items():
        check_count(name, size)
    if num_classes is not None and check_count("num_classes", num_classes, 2) > n:
        raise ValueError(f"num_classes is {num_classes}: wanted at most n = {n}")
    random = np.random.RandomState(seed)
    x, y = quadratic_from_draws(
        mixing=random.standard_normal((latent_dimension, dimension)),
        latents=random.standard_normal((n, latent_dimension)),
        noise=random.standard_normal((n, dimension)),
        form=random.standard_normal((dimension, dimension)),
        noise_scale=noise_scale,
        num_classes=num_classes,
    )
    return Dataset(
        x=x,
        y=y,
        num_classes=num_classes,
        name="quadratic",
        split="all",
        source=f"computed: {sizes}, noise_scale {noise_scale}, seed {seed}",
    )


def _scaled(columns: np.ndarray) -> np.ndarray:
    low, high = columns.min(axis=0), columns.max(axis=0)
    return ((columns - low) / (high - low)).astype(np.float32)
