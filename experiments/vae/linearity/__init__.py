"""Figure 10: reconstruction error and target linearity of a VAE's code, as it trains.

The paper trains a VAE (encoder and decoder of 2 hidden layers of 512, GELU, 32 latents) on MNIST
for 10 epochs and CIFAR-10 for 30 by Adam (1e-4, batch 128), with β of 0.05, 0.1, 1 and 10, the
loss being cross-entropy summed over pixels + β KL. Target linearity is that of the code's mean μ
on the train images as features and the images themselves as targets. Its columns are centred by
pixel here; the paper's code centres each image by its own mean brightness. Losses and
reconstruction errors are those of the test images.

The surrogate goes with the decoder's first kernel, which reads the code.
"""
