"""What the pictures of latent dimensions show, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..shared.text import named, over_seeds

if TYPE_CHECKING:
    from ..shared.results import Result

MODELS = {"mlp": "an MLP", "cnn": "a CNN", "wavelets": "a network of wavelets and channel maps"}


def captions(result: Result) -> dict[str, str]:
    """By the name of the figure."""
    config, data = result.config, named(result.config.dataset)
    sizes = "-".join(map(str, config.widths))
    network = f"{MODELS[config.network]} ({sizes}) on {data}"
    return {
        "figure": (
            f"Latent dimensions of {network}: (a) accuracy by epoch; (b) eigenvalues of the second "
            "moments of activations; (c, d) eigenvalues of KKᵀ/o of each layer's weights in the "
            "first seed, with the number that stands out from noise; test accuracy by the number "
            "of (e) activation and (f) weight components that are kept, with a point at the number "
            "that stands out, and the dotted line without clipping; alignment of two networks, (g) "
            "uncentred and (h) centred, on train samples (open) and test samples; (i) networks "
            "drawn anew from the trained covariances (points), their mean, and dotted lines at the "
            f"trained accuracy and at chance. {over_seeds(config.seeds).capitalize()}."
        ),
        "samples": f"Samples of {data}: as they are above, as the networks see them below.",
        "layer": (
            f"The first layer of {network}: the directions that it projects to (above), how it "
            "scales them (left) and the units in which it embeds them (right)."
        ),
        "stability": (
            f"Two networks, {network}: |cosines| of the leading eigenvectors of one with the "
            "aligned ones of the other, for activations and weights of each layer (columns), for "
            "trained networks, untrained ones, and samples that are permuted (rows); first seed."
        ),
    }
