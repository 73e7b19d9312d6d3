import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gramlin_jax import find_layers
from gramlin_jax.models import VAE, VAEOutputs, vae_loss

NAMES = {
    "encoder_0": "encoder_0",
    "encoder_1": "encoder_2",
    "mean": "fc_mu",
    "log_variance": "fc_logvar",
    "decoder_0": "decoder_0",
    "decoder_1": "decoder_2",
    "decoder_2": "decoder_4",
}
BETAS = "0.05", "1.0", "10.0"
SMALL = VAE(pixels=64, width=16, depth=1, latent=3)


@pytest.fixture(scope="module")
def small():
    """Parameters of ``SMALL``, and images."""
    x = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    return jax.jit(SMALL.init)(jax.random.key(0), x, jnp.zeros((4, 3))), x


def test_golden_forward(golden):
    numbers = golden("model_forward")
    layers = {
        ours: {
            "kernel": numbers[f"vae_{theirs}_weight"].T,
            "bias": numbers[f"vae_{theirs}_bias"],
        }
        for ours, theirs in NAMES.items()
    }
    model = VAE(pixels=64, width=24, latent=6)
    with jax.enable_x64(True):

        @jax.jit
        def forward(params, x, noise):
            outputs = model.apply({"params": params}, x, noise)
            return outputs, vae_loss(outputs, x, 4.0), jax.nn.sigmoid(outputs.logits)

        outputs, losses, recon = forward(layers, numbers["vae_X"], numbers["vae_eps"])
    for ours, theirs in (
        (outputs.mean, "mu"),
        (outputs.log_variance, "logvar"),
        (outputs.code, "z"),
        (recon, "recon"),
        (losses, "loss_beta4"),
    ):
        np.testing.assert_allclose(ours, numbers[f"vae_{theirs}"], rtol=1e-12, atol=1e-14)


def test_golden_loss_and_gradients(golden):
    """Of all β at once, through the logits where the reference has probabilities."""
    numbers = golden("vae_loss")
    with jax.enable_x64(True):

        def losses(recon, mu, logvar, x, beta):
            loss = vae_loss(VAEOutputs(jnp.log(recon / (1 - recon)), mu, logvar, mu), x, beta)
            return loss.total, jnp.stack(loss)

        gradient = jax.jit(jax.vmap(jax.grad(losses, (0, 1, 2), has_aux=True), (None,) * 4 + (0,)))
        arrays = (numbers[name] for name in ("recon", "mu", "logvar", "x"))
        gradients, values = gradient(*arrays, np.array(BETAS, float))
    for i, beta in enumerate(BETAS):
        np.testing.assert_allclose(values[i], numbers[f"loss_beta{beta}"], rtol=1e-12)
        for name, ours in zip(("recon", "mu", "logvar"), gradients, strict=True):
            np.testing.assert_allclose(ours[i], numbers[f"grad_{name}_beta{beta}"], rtol=1e-9)


def test_loss_of_sure_logits():
    """Far beyond where a probability rounds to 0 or 1 the loss is the logit, with its gradient."""
    zeros = jnp.zeros((1, 2))

    def loss(logits):
        return vae_loss(VAEOutputs(logits, zeros, zeros, zeros), jnp.array([[0.0, 1.0]]), 1.0).total

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.array([[500.0, -300.0]]))
    assert value == 800
    np.testing.assert_array_equal(gradient, [[1, -1]])


def test_starts_as_pytorch_does(small):
    """Uniform in ±1/√fan_in, kernel and bias; all parameters belong to linear layers."""
    params, x = small
    names = [name for name in NAMES if name not in ("encoder_1", "decoder_2")]
    assert set(params["params"]) == set(names)
    for layer in params["params"].values():
        bound = layer["kernel"].shape[0] ** -0.5
        for values in layer.values():
            assert np.abs(values).max() <= bound
        assert np.var(layer["kernel"]) == pytest.approx(bound**2 / 3, rel=0.35)
    layers = find_layers(
        lambda p, x: SMALL.apply(p, x, jnp.zeros((4, 3))).logits, params, x, strict=True
    )
    assert {site.split("/")[1] for site in layers.sites} == set(names)


def test_bad_shapes(small):
    params, x = small
    zeros = jnp.zeros((4, 3))
    with pytest.raises(ValueError, match=r"x has shape \(4, 9, 9, 1\): wanted \(n, ...\), 64"):
        SMALL.apply(params, jnp.ones((4, 9, 9, 1)), zeros)
    with pytest.raises(ValueError, match=r"noise has shape \(4, 2\): wanted \(4, 3\)"):
        SMALL.apply(params, x, jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"code has shape \(4, 2\): wanted \(..., 3\)"):
        SMALL.apply(params, jnp.zeros((4, 2)), method="decode")
    with pytest.raises(ValueError, match="params has latent size 3: wanted 5"):
        VAE(pixels=64, width=16, latent=5).apply(params, x, method="encode")
    for options, message in (
        ({"activation": "tanh"}, "activation is 'tanh'"),
        ({"latent": 0}, "wanted at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            VAE(pixels=64, **options).init(jax.random.key(0), x, zeros)


def test_bad_values():
    zeros = jnp.zeros((1, 2))
    outputs = VAEOutputs(zeros, zeros, zeros, zeros)
    compiled = jax.jit(vae_loss)
    for x in ([[0.0, 255.0]], [[-0.1, 0.5]], [[np.nan, 0.5]]):
        with pytest.raises(ValueError, match=r"^x has values from .* in \[0, 1\]"):
            vae_loss(outputs, jnp.array(x), 1.0)
        assert jnp.isnan(compiled(outputs, jnp.array(x), 1.0).total)
    with pytest.raises(ValueError, match=r"beta has shape \(2,\): wanted a number"):
        vae_loss(outputs, zeros, np.ones(2, np.float32))
    with pytest.raises(ValueError, match="beta is -1: wanted .* 0 or more"):
        vae_loss(outputs, zeros, -1.0)
    assert jnp.isnan(compiled(outputs, zeros, -1.0).total)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3\): wanted \(1, 2\)"):
        vae_loss(outputs, jnp.zeros((1, 3)), 1.0)
