"""Figure 5: a VAE interpolates between images as linearly as its code is linear in them.

The runs are those of figure 10. Two test images are encoded and λμ₁ + (1 − λ)μ₂ decoded for λ
from 1 to 0, at several epochs and for each β, beside the interpolation of their pixels. Beyond the
paper, the same is done between many random pairs of test images. If target linearity explains
linear interpolation, then runs and epochs of higher target linearity are nearer to the pixels'
line.

Better reconstructions also bring them nearer, since the ends of a decoded line are reconstructions:
a partial correlation holds the reconstruction error fixed. And ``bend`` measures the distance from
the line between the decoded ends themselves, whatever the reconstructions are.
"""
