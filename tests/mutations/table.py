"""The mutations: a formula, a condition or a constant each, by file and the tests to run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Mutation(NamedTuple):
    """One change of one file.

    Attributes:
        file: From the root of the repository.
        tests: Arguments of pytest that select what should fail: files, then perhaps ``-k words``.
        name: What goes wrong; unique.
        old: Text that is in the file exactly once.
        new: What takes its place.
    """

    file: str
    tests: str
    name: str
    old: str
    new: str


LINEARITY = "gramlin_jax/metrics/linearity.py", "tests/metrics/test_linearity.py"
COLLAPSE = (
    "gramlin_jax/metrics/collapse.py",
    "tests/metrics/test_nearest_mean.py tests/metrics/test_collapse.py",
)
GRAM = "gramlin_jax/metrics/gram.py", "tests/metrics/test_gram.py"
ROTATION = "gramlin_jax/metrics/rotation.py", "tests/metrics/test_gram.py"
VIRTUAL = "gramlin_jax/metrics/virtual.py", "tests/metrics/test_virtual.py"
OPTIM = "gramlin_jax/optim.py", "tests/test_optim.py"
FEATURES = "gramlin_jax/_moments/features.py", "tests/test_moments.py"
GRADIENTS = "gramlin_jax/_moments/gradients.py", "tests/test_gradients.py"
MEASURE = "gramlin_jax/_measure/run.py", "tests/test_measure.py"
MEASUREMENT = "gramlin_jax/_measure/measurement.py", "tests/test_measure.py"
STREAM = "gramlin_jax/_measure/stream.py", "tests/test_measure.py"
PRECISION = "gramlin_jax/support/precision.py", "tests/metrics/test_linearity.py"
CHECKS = "gramlin_jax/support/checks.py", "tests/test_moments.py tests/metrics/test_virtual.py"
FILES = "gramlin_jax/support/files.py", "tests/test_results.py"
CNN = "gramlin_jax/models/cnn.py", "tests/models/test_cnn.py"
DNN = "gramlin_jax/models/dnn.py", "tests/models/test_dnn.py"
INITIALIZERS = "gramlin_jax/models/initializers.py", "tests/models/test_dnn.py"
VAE = "gramlin_jax/models/vae.py", "tests/models/test_vae.py"
NOISE = "gramlin_jax/data/label_noise.py", "tests/data/test_label_noise.py"
MODULAR = "gramlin_jax/data/modular.py", "tests/data/test_modular.py"
SYNTHETIC = "gramlin_jax/data/synthetic.py", "tests/data/test_synthetic.py"
IMAGES = "gramlin_jax/data/tfds_images.py", "tests/data/test_tfds_images.py"
LOADING = "gramlin_jax/data/loading.py", "tests/data/test_loading.py"
DATASET = "gramlin_jax/data/dataset.py", "tests/data/test_dataset.py"
LOOP = "gramlin_jax/training/loop.py", "tests/test_training.py"
CHECKPOINTS = "gramlin_jax/training/checkpoints.py", "tests/test_training.py"
SWEEPS = "gramlin_jax/training/sweeps.py", "tests/test_training.py"
PROVENANCE = "gramlin_jax/taps/provenance.py", "tests/taps/test_cases.py -k found"
MATRICIZE = "gramlin_jax/taps/matricize.py", "tests/taps/test_cases.py -k against"
INTERPRETER = "gramlin_jax/taps/interpreter.py", "tests/taps/test_cases.py -k against"
TRANSFORM = "gramlin_jax/taps/transform.py", "tests/taps/test_transform.py"
NAMES = "gramlin_jax/taps/transform.py", "tests/taps/test_cases.py -k found"
COMPAT = "gramlin_jax/taps/compat.py", "tests/taps/test_cases.py -k found or against"
ROWS = (
    "gramlin_jax/taps/rows.py",
    "tests/test_gradients.py tests/test_measure.py -k jacobian or samples",
)
STAIRCASE = "experiments/fig08_staircase.py", "tests/test_claims_staircase.py"
NORMS = "experiments/fig08_norms.py", "tests/test_fig08.py -k linear_fit"
NEURAL = "experiments/neural_collapse.py", "tests/test_claims_neural_collapse.py"
GRAM_ONLY = "experiments/fig02_gram_whitening.py", "tests/test_fig02.py -k check"
CURVES = "experiments/curves.py", "tests/test_fig02.py tests/test_fig08.py -k check or spread"
RANKS = "experiments/rank_correlation.py", "tests/test_fig05.py -k rank"
CLASSIFICATION = "experiments/classification.py", "tests/test_fig12.py tests/test_experiments.py"

MUTATIONS = [
    Mutation(*place, *change)
    for place, change in (
        # target linearity
        (LINEARITY, ("adjusted: n in the place of n - 1", "* (m.count - 1) / left", "* m.count / left")),
        (LINEARITY, ("adjusted: no intercept among the degrees", "fit.rank - 1\n", "fit.rank\n")),
        (LINEARITY, ("noise floor over n", "rank / (m.count - 1)", "rank / m.count")),
        (LINEARITY, ("held out: sign of the cross term", "- 2 * jnp.sum(b * test.cross", "+ 2 * jnp.sum(b * test.cross")),
        (LINEARITY, ("held out: means ignored", "+ test.count * jnp.sum((y - dot(h, b)) ** 2)", "+ 0 * test.count * jnp.sum((y - dot(h, b)) ** 2)")),
        (LINEARITY, ("no intercept: centred targets", "fit.explained[:-1] - n * missing**2 / leverage", "fit.explained[:-1]")),
        (LINEARITY, ("no intercept: constants are never spanned", "constant.any() | (m.count * outside > rtol * len(squares) * leverage)", "False")),
        (LINEARITY, ("surrogate: a sum over targets", "return squares / m.target_mean.shape[0]", "return squares")),
        (LINEARITY, ("surrogate: scale of centred features", "dot(m.feature_products, kernel)", "dot(m.feature_scatter, kernel)")),
        (LINEARITY, ("columns are not scaled", "scale = jnp.where(squares > 0, lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)", "scale = jnp.where(squares > 0, 1.0, 0.0)")),
        (LINEARITY, ("rank is absolute", "rtol * eigenvalues[-1]", "rtol")),
        (LINEARITY, ("NaN is an absent direction", "jnp.isfinite(gram).all() & jnp.isfinite(cross).all()", "jnp.isfinite(gram).all()")),
        (LINEARITY, ("constant columns count", "return jnp.where(squares <= count * (CONSTANT * mean) ** 2, 0.0, squares)", "return squares")),
        # neural collapse
        (COLLAPSE, ("means centred at the samples' mean", "a = apart - center", "a = apart")),
        (COLLAPSE, ("NC1 keeps the scatter between classes", "(inverse * dot(scatter, inverse)).sum() - between.sum()", "(inverse * dot(scatter, inverse)).sum()")),
        (COLLAPSE, ("classes' shares are equal in NC1", "between = share[None] * dot", "between = 1 / classes * dot")),
        (COLLAPSE, ("angles: sign of 1/(C - 1)", "cosines + 1 / (classes - 1)", "cosines - 1 / (classes - 1)")),
        (COLLAPSE, ("ETF: not of norm 1", "/ (classes - 1) ** 0.5\n", "/ classes**0.5\n")),
        (COLLAPSE, ("distances: half the cross term", "- 2 * gram)[pairs]", "- gram)[pairs]")),
        (COLLAPSE, ("NC3: norm not squared", "a / norm(a)) ** 2", "a / norm(a))")),
        (COLLAPSE, ("offset without the bias", "dot(kernel.T, center) + bias", "dot(kernel.T, center)")),
        (COLLAPSE, ("offset: factor of the classes", "/ len(bias) ** 0.5", "/ len(bias)")),
        (COLLAPSE, ("cdnv of the variance about the samples' mean", "m.class_scatter / counts - (apart**2).sum(0)", "m.class_scatter / counts")),
        (COLLAPSE, ("NC2 depends on the unit of the kernel's columns", "_directions(_unit_columns(kernel))", "_directions(kernel)")),
        (COLLAPSE, ("NC4: a tie is a mismatch", "jnp.where(own > squares.min(1), 1.0, 0.0)", "jnp.where(own >= squares.min(1), 1.0, 0.0)")),
        (COLLAPSE, ("NC4: half of the product", "squares = (means**2).sum(0)[None] - 2 * dot(h, means)", "squares = (means**2).sum(0)[None] - dot(h, means)")),
        (COLLAPSE, ("NRC1 of one direction fewer", "max(d - k, 0)", "max(d - k - 1, 0)")),
        (COLLAPSE, ("NRC3 at an end only", "jnp.clip(inner, 0, sigma[0])", "jnp.clip(inner, 0, 0)")),
        (COLLAPSE, ("gamma: root", ".min() ** 2\n", ".min()\n")),
        (COLLAPSE, ("rare classes have no sample", "FEWEST = 1e-9", "FEWEST = 1e-2")),
        (COLLAPSE, ("derivative without Newton's step", "2 * basis - dot(basis, dot(basis.T, basis))", "basis")),
        (COLLAPSE, ("a class of one sample is let through", "np.isclose(counts, 1)", "np.isclose(counts, 0)")),
        # Gram, rotation
        (GRAM, ("Gram of the outputs", "return dot(kernel, kernel.T)", "return dot(kernel.T, kernel)")),
        (GRAM, ("the farther kernel is taken", "(2 * (k2 - k1) + turn)) < 0", "(2 * (k2 - k1) + turn)) > 0")),
        (GRAM, ("the step is always turned", "(2 * (k2 - k1) + turn)) < 0", "(2 * (k2 - k1) + turn)) < jnp.inf")),
        (GRAM, ("float16 is not widened", "return a.astype(jnp.promote_types(a.dtype, jnp.float32))", "return a")),
        (ROTATION, ("shift of a million rounding errors", "SHIFT = 128", "SHIFT = 1e6")),
        (ROTATION, ("generator without its antisymmetry", "a = (s - s.T) / both", "a = s / both")),
        (ROTATION, ("second order of the exponential", "further = a + dot(a, a) / 2", "further = a + dot(a, a)")),
        (ROTATION, ("a negative diagonal is no sign", "possible = diagonal.min() > 0", "possible = jnp.isfinite(h).all()")),
        (ROTATION, ("a positive diagonal is enough", "lambda: is_positive_definite(scaled)", "lambda: possible")),
        (ROTATION, ("the basis does not follow", "rotation = h * gap / (gap**2 + (both / 10) ** 2)", "rotation = 0 * h * gap / (gap**2 + (both / 10) ** 2)")),
        (ROTATION, ("the cubic's constant", "3 * eye - rho * y", "2 * eye - rho * y")),
        (ROTATION, ("wide: second order of the turn", "(v + turn / 2)", "(v + turn)")),
        (ROTATION, ("wide: the turn is not corrected", "dot(weight, turn) - dot(error, u) / 2", "dot(weight, turn)")),
        (ROTATION, ("polishing with a whole step", "turn = turn - (error + dot(error, turn)) / 2\n", "turn = turn - (error + dot(error, turn))\n")),
        # virtual covariance
        (VIRTUAL, ("virtual update upwards", "inputs - learning_rate * input_gradients", "inputs + learning_rate * input_gradients")),
        (VIRTUAL, ("first order of one side", "-learning_rate * (s + jnp.swapaxes(s, -1, -2))", "-2 * learning_rate * s")),
        (VIRTUAL, ("second order by the rate once", "+ learning_rate**2 * squares", "+ learning_rate * squares")),
        (VIRTUAL, ("change of the Gram without its second order", "+ jnp.swapaxes(cross, -1, -2) + matmul(step, step_t)", "+ jnp.swapaxes(cross, -1, -2)")),
        (VIRTUAL, ("alignment is not normalised", "/ jnp.sqrt(squares)", "/ squares")),
        (VIRTUAL, ("alignment of small steps underflows", "a, b = (m / jnp.abs(m).max((-2, -1), keepdims=True) for m in (a, b))", "a, b = (m * 1.0 for m in (a, b))")),
        # optimisers
        (OPTIM, ("complement: the other way round", "_gram_only_step(after, before, basis)", "_gram_only_step(before, after, basis)")),
        (OPTIM, ("a step that is not finite is hidden", "stepped = jnp.where(jnp.isfinite(change).all(), stepped, update)", "stepped = jnp.where(jnp.isfinite(change).all(), stepped, 0)")),
        (OPTIM, ("Haiku's kernels are not found", 'KERNELS = "kernel", "w"', 'KERNELS = "kernel", "weight"')),
        (OPTIM, ("three axes are a kernel", "if leaf.ndim == 3:", "if leaf.ndim == 6:")),
        (OPTIM, ("NNX's parameters are not found", 'if names[-1:] == ["value"]', 'if names[-1:] == ["values"]')),
        # moments
        (FEATURES, ("merger: pairs of means weigh too much", "pairs = self.count * share", "pairs = count * share")),
        (FEATURES, ("merger: the mean moves too far", "target_mean=self.target_mean + share * y,", "target_mean=self.target_mean + y,")),
        (FEATURES, ("psum: means are not weighed", "lax.psum(share * self.target_mean, axis_name)", "lax.pmean(self.target_mean, axis_name)")),
        (FEATURES, ("psum: cross scatter without the means", "self.cross_scatter + n * jnp.outer(h, y), axis_name", "self.cross_scatter, axis_name")),
        (FEATURES, ("products: squared count", "self.cross_scatter + self.count * jnp.outer(self.feature_mean", "self.cross_scatter + self.count**2 * jnp.outer(self.feature_mean")),
        (FEATURES, ("merger: class scatter about the old mean", "class_scatter=self._class_scatter_from(-share[..., None] * h)", "class_scatter=self._class_scatter_from(0 * h)")),
        (FEATURES, ("the mean keeps its rounding", "return mean + error, rows - error[None]", "return mean, rows")),
        (FEATURES, ("weights do not count in the scatter", "h if weights is None else h * w[:, None]", "h")),
        (FEATURES, ("weights do not count in the targets", "dot(w, y**2))", "(y**2).sum(0))")),
        (FEATURES, ("the last block is left out", "if whole and rest:", "if whole > 1 and rest:")),
        (FEATURES, ("constant columns: 1e-8", "CONSTANT = 2.0**-48", "CONSTANT = 1e-8")),
        (GRADIENTS, ("sums: gradients of the mean loss", "n * gradient, n**2 * products", "gradient, n**2 * products")),
        (GRADIENTS, ("sums: products by n once", "n * gradient, n**2 * products", "n * gradient, n * products")),
        (GRADIENTS, ("products by the count once", "self.output_sum / self.count**2", "self.output_sum / self.count")),
        (GRADIENTS, ("Jacobian: squares of probes too large", ".sum((-3, -2, -1)) * scale**2", ".sum((-3, -2, -1)) * scale")),
        (GRADIENTS, ("Jacobian: products of probes are a sum", ".astype(jnp.float64) * scale\n", ".astype(jnp.float64)\n")),
        (GRADIENTS, ("Jacobian: one probe for all samples", "jax.random.normal(key, (probes, *out.shape), out.dtype)", "jax.random.normal(key, (probes, 1, *out.shape[1:]), out.dtype)")),
        # measure
        (MEASURE, ("the seed is ignored", "jax.random.key(seed), index", "jax.random.key(0), index")),
        (MEASURE, ("one projection for all layers", "jax.random.key(seed), index)", "jax.random.key(seed), 0)")),
        (MEASURE, ("stacks of kernels read rows", " and len(site.stack) == site.layers\n", "\n")),
        (MEASURE, ("convolutions read rows", 'dense = site.primitive == "dot_general" and', "dense =")),
        (MEASURE, ("projected features are read", "site.fan_in == how.width <= width_limit", "site.fan_in == how.width")),
        (MEASURE, ("loss is not weighed by samples", "return n * loss.astype(jnp.float64)", "return loss.astype(jnp.float64)")),
        (MEASURE, ("labels below 0", "(y >= 0) & (y < logits.shape[-1])", "y < logits.shape[-1]")),
        (MEASURE, ("accuracy over samples", 'numbers["correct"] / numbers["labels"] if', 'numbers["correct"] / numbers["count"] if')),
        (MEASURE, ("features that do not follow are measured", "> 1e-2 * jnp.abs(a).max()", "> 1e2 * jnp.abs(a).max()")),
        (MEASURE, ("positions are summed, not averaged", "h.mean(1) if", "h.sum(1) if")),
        (MEASUREMENT, ("virtual share of the kernel's norm", "_norm(_virtual(layer)) / _norm(matmul(kernel, jnp.swapaxes(kernel, -1, -2)))", "_norm(_virtual(layer)) / _norm(kernel)")),
        (MEASUREMENT, ("virtual alignment without its learning rate", "kernel - layer.learning_rate * layer.gradients.kernel_gradient", "kernel - layer.gradients.kernel_gradient")),
        (MEASUREMENT, ("surrogate is not normalised", "layer.kernel, normalized=True", "layer.kernel, normalized=False")),
        (STREAM, ("samples beyond the last whole batch", "n // size * size, n]", "n // size * size]")),
        (STREAM, ("batches do not spread over devices", "if size % _devices(mesh) == 0 else ()", "if size % _devices(mesh) == 1 else ()")),
        # support
        (PRECISION, ("rank tolerance without its floor of 64", "return max(64, size) * 2.0**-52", "return size * 2.0**-52")),
        (PRECISION, ("rank tolerance of float32", "return max(64, size) * 2.0**-52", "return max(64, size) * 2.0**-23")),
        (PRECISION, ("float64 is not switched on", 'jax.enable_x64(True), jax.default_matmul_precision("highest")', "jax.enable_x64(False)")),
        (CHECKS, ("infinity is let through", "(~jnp.isfinite(array)).sum()", "jnp.isnan(array).sum()")),
        (CHECKS, ("integers are let through", "if not jnp.issubdtype(array.dtype, jnp.floating):\n        hint", "if False:\n        hint")),
        (FILES, ("an old file is damaged by a write that fails", 'temporary = path.with_name(f".{path.name}-{os.getpid()}")', "temporary = path")),
        (FILES, ("a temporary file is left", "temporary.unlink(missing_ok=True)", "pass")),
        (FILES, ("another configuration is taken", "if found.get(key) != wanted.get(key):", "if found.get(key) is None:")),
        (FILES, ("NaN is written as it is", "if isinstance(value, float) and not np.isfinite(value):", "if False:")),
        # models
        (CNN, ("pooling takes the mean", "jnp.where((a >= b) | jnp.isnan(a), a, b)", "(a + b) / 2")),
        (CNN, ("NaN is pooled away", "(a >= b) | jnp.isnan(a)", "a >= b")),
        (CNN, ("gradient of a tie goes to the second", "(a >= b) |", "(a > b) |")),
        (CNN, ("the kernel is flipped", "for i in range(3) for j in range(3)]", "for j in range(3) for i in range(3)]")),
        (CNN, ("fan-in of the bias without the window", "self._options(9 * h.shape[-1])", "self._options(h.shape[-1])")),
        (DNN, ("approximate GELU", "approximate=False", "approximate=True")),
        (DNN, ("features are not what the next layer reads", "features.append(h)", "features.append(h * 1.01)")),
        (INITIALIZERS, ("kernels by Glorot", '1 / 3, "fan_in"', '1 / 3, "fan_avg"')),
        (INITIALIZERS, ("biases by 1/fan-in", "bound = fan_in**-0.5", "bound = fan_in**-1.0")),
        (VAE, ("deviation is the variance", "jnp.exp(log_variance / 2) * noise", "jnp.exp(log_variance) * noise")),
        (VAE, ("KL twice", "divergence.sum(1).mean() / 2", "divergence.sum(1).mean()")),
        (VAE, ("KL without -1", "jnp.expm1(outputs.log_variance)", "jnp.exp(outputs.log_variance)")),
        (VAE, ("reconstruction is a mean over pixels", "jnp.where(possible, entropies, jnp.nan).sum(1).mean()", "jnp.where(possible, entropies, jnp.nan).mean()")),
        (VAE, ("impossible pixels have a loss", "jnp.where(possible, entropies, jnp.nan)", "entropies")),
        (VAE, ("a negative weight of the KL", "jnp.where(beta >= 0, beta, jnp.nan)", "beta")),
        # data
        (NOISE, ("one label too many", "noise.ranks < threshold", "noise.ranks <= threshold")),
        (NOISE, ("the last class is never drawn", "random.randint(num_classes, size=n)", "random.randint(num_classes - 1, size=n)")),
        (MODULAR, ("y in the place of x", "x**3 + x * y**2 + x,", "x**3 + x * y**2 + y,")),
        (MODULAR, ("even y are divided", "y % 2 == 1", "y % 2 == 0")),
        (SYNTHETIC, ("swiss roll of other angles", "1.5 * np.pi * (1 + 2 *", "1.5 * np.pi * (1 + 3 *")),
        (SYNTHETIC, ("swiss roll without the second draw", "    random.uniform(size=n)  # The draw", "    pass  # The draw")),
        (SYNTHETIC, ("quadratic: trace on the diagonal only", "np.trace(form) / d\n", "np.trace(form) / d * np.eye(d)\n")),
        (SYNTHETIC, ("quadratic: classes are not balanced", "np.arange(1, num_classes) / num_classes", "np.arange(1, num_classes) / (num_classes + 1)")),
        (IMAGES, ("pixels over 256", "np.float32(255)", "np.float32(256)")),
        (IMAGES, ("the oldest version", "return max(folders, key", "return min(folders, key")),
        (LOADING, ("digits over 15", "digits.images[part] / 16", "digits.images[part] / 15")),
        (LOADING, ("splits overlap", "else order[_DIGITS_TRAIN:]", "else order[_DIGITS_TRAIN - 1 :]")),
        (DATASET, ("labels below 0 are let through", "(labels < 0) | (labels >= num_classes)", "labels >= num_classes")),
        (DATASET, ("one sample fewer is taken", "if not 1 <= n <= len(self):", "if not 1 <= n < len(self):")),
        # training
        (LOOP, ("one key for all batches of an epoch", "lax.scan(step, state, (rows, keys[:whole]))", "lax.scan(step, state, (rows, jnp.broadcast_to(keys[0], (whole,))))")),
        (LOOP, ("one order for all epochs", 'jax.random.fold_in(jax.random.key(hyper["seed"]), epoch + 1)', 'jax.random.key(hyper["seed"])')),
        (LOOP, ("the last batch counts in full", "share = rest / self.n", "share = rest / self.batch_size")),
        (LOOP, ("the last batch is left out", "(order[-rest:], keys[-1])", "(order[:rest], keys[-1])")),
        (LOOP, ("labels out of range are not reported", "known = (labels >= 0) &", "known = (labels >= -1) &")),
        (LOOP, ("data of another run are not noticed", '"data": _fingerprint(data) if directory else {}', '"data": {}')),
        (LOOP, ("divergence is not reported", "if not row.all():", "if not row.any():")),
        (CHECKPOINTS, ("checkpoints: the interval is ignored", "if self._directory is None or not (last or now - self._saved >= self._interval):", "if self._directory is None:")),
        (CHECKPOINTS, ("checkpoints: the last one is left out", "not (last or now", "not (now")),
        (SWEEPS, ("vmap whatever the size", "fits = runs * working_set <= CACHE_BYTES", "fits = working_set <= CACHE_BYTES")),
        (SWEEPS, ("the first name varies fastest", "itertools.product(*columns.values())", "itertools.product(*reversed(columns.values()))")),
        # taps
        (PROVENANCE, ("a product of two kernels is a site", ".count(True) != 1", ".count(True) == 0")),
        (PROVENANCE, ("sums over any axis are layers", 'if axes & set(eqn.params["axes"]):', "if axes:")),
        (PROVENANCE, ("kernels of a scan never change", "source._replace(loops=source.loops | loop) for source in arrays", "source for source in arrays")),
        (PROVENANCE, ("a carry settles at once", "if after == carries:", "if True:")),
        (PROVENANCE, ("complex kernels are sites", "if not jnp.issubdtype(kernel_dtype, jnp.floating):", "if False:")),
        (PROVENANCE, ("hidden kernels along any axes", "if axes & set(over) and axes - {*over, *batch}:", "if axes & set(over):")),
        (PROVENANCE, ("a transposed product is forgotten", "frozenset(i for i, a in enumerate(params[\"permutation\"]) if a in axes)", "frozenset()")),
        (PROVENANCE, ("lookups of indices are lookups", "name in compat.LOOKUPS and index == 0", "name in compat.LOOKUPS and index == 1")),
        (MATRICIZE, ("patches: window before channels", "parts = [*([(1,)] if stack else []), *rows, (first + 1, first)]", "parts = [*([(1,)] if stack else []), *rows, (first, first + 1)]")),
        (MATRICIZE, ("kernel of a convolution: channels first", "[(*k[2:], k[1]), (k[0],)]", "[(k[1], *k[2:]), (k[0],)]")),
        (MATRICIZE, ("undo transposes again", "transpose(np.argsort(self.permutation))", "transpose(self.permutation)")),
        (MATRICIZE, ("groups: inner before outer", "split = (*shape[:channels], groups, size // groups", "split = (*shape[:channels], size // groups, groups")),
        (INTERPRETER, ("a shift changes the network's type", "return value + shift.astype(value.dtype)", "return value + shift")),
        (INTERPRETER, ("steps lead the stack", "destination=len(site.stack)", "destination=0")),
        (NAMES, ("integer leaves are parameters", "np.size(leaf) * jnp.issubdtype(leaf.dtype, jnp.floating) for", "np.size(leaf) for")),
        (NAMES, ("NNX's arrays are named by their value", "paths = [path[:-1] for path in paths]", "pass")),
        (TRANSFORM, ("a perturbation of another shape is let through", "if np.shape(value) != getattr(site, shape):", "if False:")),
        (COMPAT, ("scans run forwards", '("reverse", "unroll", "_split_transpose")', '("unroll", "_split_transpose")')),
        (COMPAT, ("custom rules are entered", '("custom_", "remat", "checkpoint", "shard_map")', '("remat", "checkpoint", "shard_map")')),
        (ROWS, ("samples are the fast index", "array, stack + axis, stack)", "array, stack + axis, -2)")),
        # experiments
        (STAIRCASE, ("prediction interval without 1 + 1/s", "* (1 + 1 / config.seeds) ** 0.5", "* 1")),
        (STAIRCASE, ("prediction interval of the mean", "(1 + 1 / config.seeds) ** 0.5", "(1 / config.seeds) ** 0.5")),
        (NORMS, ("ridge: sign", "jnp.maximum(values, 0.0) + ridge", "jnp.maximum(values, 0.0) - ridge")),
        (NORMS, ("noise: the largest eigenvalues are left out", "inverse[-min(n, w) :]", "inverse[: min(n, w)]")),
        (NEURAL, ("the terminal phase begins at 0", "int(reached.argmax()) if reached.any()", "0 if reached.any()")),
        (NEURAL, ("a run that never gets there begins at 0", "else len(accuracy) - 1", "else 0")),
        (NEURAL, ("the link: not over C - 1", "return total / (len(m.target_mean) - 1)", "return total / len(m.target_mean)")),
        (GRAM_ONLY, ("margin of figure 2", "test.low > -MARGIN", "test.low > -10 * MARGIN")),
        (GRAM_ONLY, ("a tenth of the gain", "gain[2] >= LITTLE * gain[0]", "gain[2] >= gain[0]")),
        (GRAM_ONLY, ("table: ± of the population", "values.std(ddof=1)", "values.std()")),
        (CURVES, ("bands: ± of the population", "ddof=min(1, len(runs) - 1)", "ddof=0")),
        (RANKS, ("interval: ± of the population", "z.std(ddof=1) / len(z) ** 0.5", "z.std() / len(z) ** 0.5")),
        (RANKS, ("partial correlation: sign", "ab - ac * bc", "ab + ac * bc")),
        (CLASSIFICATION, ("losses are summed", '"loss": total["loss"] / n,', '"loss": total["loss"],')),
    )
]  # fmt: skip


def misplaced(root: Path) -> list[str]:
    """Names of mutations whose old text is not in its file exactly once, with the number found."""
    counts = [(m, (root / m.file).read_text().count(m.old)) for m in MUTATIONS]
    return [f"{m.file}: {m.name} ({count} times)" for m, count in counts if count != 1]
