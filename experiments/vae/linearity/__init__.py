"""Figure 10: reconstruction error and target linearity of a VAE's code, as it trains.

The paper trains a VAE (encoder and decoder of 2 hidden layers of 512, GELU, 32 latents) on MNIST
for 10 epochs and CIFAR-10 for 30 by Adam (1e-4, batch 128), with β of 0.05, 0.1, 1 and 10. The
loss is the cross-entropy summed over pixels + β KL. Target linearity is measured on the training
images; features are the means μ of their codes, targets are the images themselves. Targets are
centred by pixel here; the paper's code centres each image by its own mean brightness. Losses and
reconstruction errors are of the test images.

The surrogate goes with the decoder's first kernel, which reads the code.
"""
