"""PyTorch's parameters of a CNN as ours."""

import math


def cnn_params(numbers, prefix):
    """Linen parameters from ``{prefix}layers_{i}_weight``, OIHW of convolutions, and bias.

    The last layer, (out, in), takes its inputs in PyTorch's order (channels, height, width).
    """
    layers = {}
    while (key := f"{prefix}layers_{len(layers)}_weight") in numbers:
        weight, i = numbers[key], len(layers)
        if weight.ndim == 2:
            channels = numbers[f"{prefix}layers_{i - 1}_weight"].shape[0]
            side = math.isqrt(weight.shape[1] // channels)
            weight, name = weight.reshape(-1, channels, side, side), "Dense_0"
        else:
            name = f"Conv_{i}"
        kernel = weight.transpose(2, 3, 1, 0)
        if name == "Dense_0":
            kernel = kernel.reshape(-1, kernel.shape[-1])
        layers[name] = {"kernel": kernel}
        if (bias := key.replace("weight", "bias")) in numbers:
            layers[name]["bias"] = numbers[bias]
    return {"params": layers}
