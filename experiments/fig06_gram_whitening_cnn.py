"""Figure 6: figure 2 with a convolutional network.

Three layers of 16 channels (3×3, ReLU), max-pool after the first and third, and momentum 0.95. A
convolution's kernel (3, 3, in, out) is the matrix (9·in, out) that its patches meet, and its Gram
is that of the patches. Target linearity is that of the maps, flattened and projected to 256
features where they are more. All else, and the claims, are those of ``fig02_gram_whitening``.
"""

from __future__ import annotations

import dataclasses

from experiments import fig02_gram_whitening as fig02
from experiments.fig02_gram_whitening import check, plot, run, table

__all__ = ["PRESETS", "check", "plot", "run", "table"]

PRESETS = {
    preset: dataclasses.replace(config, network="cnn", width=16, depth=3, momentum=0.95)
    for preset, config in fig02.PRESETS.items()
}
