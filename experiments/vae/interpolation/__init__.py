"""Figure 5: a VAE interpolates between images as linearly as its code is linear in them.

The runs are those of figure 10. Two test images are encoded and λμ₁ + (1 − λ)μ₂ decoded for λ
from 1 to 0, at several epochs and for each β, beside the interpolation of their pixels. Beyond the
paper the same is done between many random pairs of test images: if target linearity explains
linear interpolation, runs and epochs of higher target linearity are nearer to the pixels' line.

Two things besides could bring them nearer, and are told apart. The ends of a decoded line are
reconstructions, so the distance falls as reconstructions get better: the partial correlation holds
that fixed. And ``bend`` is the distance from the line between the decoded ends themselves.
"""
