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


LINEARITY = (
    "gramlin_jax/metrics/linearity.py",
    "tests/metrics/test_linearity.py -k golden or floor or heldout or undefined",
)
REGRESSION = "gramlin_jax/metrics/regression.py", "tests/metrics/test_regression.py"
COLLAPSE = (
    "gramlin_jax/metrics/collapse.py",
    "tests/metrics/test_nearest_mean.py tests/metrics/test_collapse.py -k not dependent",
)
NRC = (
    "gramlin_jax/metrics/collapse_regression.py",
    "tests/metrics/test_collapse.py -k regression or nrc",
)
SIMILARITY = (
    "gramlin_jax/metrics/similarity.py",
    "tests/metrics/test_similarity.py -k against or gram_matrices or permuted or stability",
)
PAIRS = (
    "gramlin_jax/_moments/pairs.py",
    "tests/metrics/test_similarity.py -k sums_of_parts",
)
RAINBOW = (
    "gramlin_jax/rainbow.py",
    "tests/test_rainbow.py -k covariance or flax or filters or through or anew or nothing",
)
DEEP = "gramlin_jax/deep_linear.py", "tests/test_deep_linear.py"
LATENT = (
    "experiments/latent_dimensions/claims.py",
    "tests/test_latent_dimensions.py -k false or shared or enough",
)
GRAM = "gramlin_jax/metrics/gram.py", "tests/metrics/test_gram.py -k step or symmetric"
ROTATION = "gramlin_jax/metrics/rotation.py", "tests/metrics/test_gram.py"
VIRTUAL = "gramlin_jax/metrics/virtual.py", "tests/metrics/test_virtual.py"
COSINES = "gramlin_jax/metrics/cosines.py", "tests/metrics/test_virtual.py"
OPTIM = (
    "gramlin_jax/optim.py",
    "tests/test_optim.py -k splits or selects or finite or masked or bad",
)
REGISTRY = (
    "gramlin_jax/metrics/registry.py",
    "tests/test_measure_metrics.py tests/test_measure_options.py",
)
SCALE = "gramlin_jax/_moments/features.py", "tests/metrics/test_scale.py -k constant"
CONSTANTS = "gramlin_jax/_moments/features.py", "tests/metrics/test_regression.py -k constant"
GRADIENTS = (
    "gramlin_jax/_moments/gradients.py",
    "tests/test_gradients.py -k autodiff or bad or probes",
)
SELECTED = "gramlin_jax/_moments/gradients.py", "tests/test_gradients.py -k asked"
JACOBIANS = (
    "gramlin_jax/_moments/jacobians.py",
    "tests/test_jacobian_probes.py tests/test_gradients.py -k jacobian or probes or bad or told",
)
LAST = "gramlin_jax/_moments/jacobians.py", "tests/test_measure_ansatz.py -k last"
NOTHING = "gramlin_jax/metrics/registry.py", "tests/test_measure_ansatz.py -k probes or reason"
RANGE = "gramlin_jax/metrics/singular.py", "tests/metrics/test_ansatz.py -k nan"
SQUARE = "gramlin_jax/metrics/singular.py", "tests/metrics/test_ansatz.py -k bad"
EQUAL = "gramlin_jax/metrics/singular.py", "tests/metrics/test_ansatz.py -k rounding or equal"
DIRECTIONS = "gramlin_jax/metrics/ansatz.py", "tests/metrics/test_ansatz.py -k rounding or nan"
INFLUENCE = "experiments/ansatz/influence.py", "tests/test_ansatz_experiment.py -k influence"
IN_FLOAT64 = "experiments/ansatz/measures.py", "tests/test_ansatz_experiment.py -k float64"
TIDY = "experiments/ansatz/claims.py", "tests/test_ansatz_experiment.py -k leaves"
LAST_SAVED = "gramlin_jax/_measure/measurement.py", "tests/test_measure_ansatz.py -k nothing"
LAST_PROBED = "gramlin_jax/_measure/probe.py", "tests/test_probe.py -k logits"
PROJECTION = "gramlin_jax/_moments/projection.py", "tests/test_projection.py"
BATCH = "gramlin_jax/_measure/batch.py", "tests/test_measure_metrics.py"
PRECISION = "gramlin_jax/support/precision.py", "tests/metrics/test_regression.py"
TOLERANCE = "gramlin_jax/support/linalg.py", "tests/metrics/test_regression.py"
DERIVATIVES = (
    "gramlin_jax/support/linalg.py",
    "tests/metrics/test_derivatives.py -k derivatives or equal or zeros",
)
POLAR = "gramlin_jax/metrics/gram.py", "tests/metrics/test_derivatives.py -k polar"
GRAM_RULE = (
    "gramlin_jax/metrics/gram.py",
    "tests/metrics/test_derivatives.py -k gram_only or no_step",
)
COMPARISONS = (
    "gramlin_jax/support/array_fields.py",
    "tests/test_additive.py -k equality or keys or line",
)
ROUNDED = "gramlin_jax/support/precision.py", "tests/test_lowering.py -k round"
PRODUCTS = "gramlin_jax/support/linalg.py", "tests/test_precision.py -k gram"
WIDENED = "gramlin_jax/support/precision.py", "tests/metrics/test_gram.py -k bfloat16 or type"
CHECKS = (
    "gramlin_jax/support/checks.py",
    "tests/test_moments.py tests/metrics/test_virtual.py -k bad",
)
FILES = "gramlin_jax/support/files.py", "tests/test_results.py"
CNN = "gramlin_jax/models/cnn.py", "tests/models/test_cnn.py"
DNN = "gramlin_jax/models/dnn.py", "tests/models/test_dnn.py"
INITIALIZERS = "gramlin_jax/models/initializers.py", "tests/models/test_dnn.py"
VAE = "gramlin_jax/models/vae.py", "tests/models/test_vae.py"
NOISE = "gramlin_jax/data/noise.py", "tests/data/test_noise.py"
MODULAR = "gramlin_jax/data/modular.py", "tests/data/test_modular.py"
SYNTHETIC = "gramlin_jax/data/synthetic.py", "tests/data/test_synthetic.py"
FOLDERS = "gramlin_jax/data/tfds_folders.py", "tests/data/test_tfds_images.py -k newest"
IMAGES = "gramlin_jax/data/tfds_images.py", "tests/data/test_tfds_images.py"
LOADING = "gramlin_jax/data/loading.py", "tests/data/test_loading.py"
DATASET = "gramlin_jax/data/dataset.py", "tests/data/test_dataset.py"
PROGRAM = (
    "gramlin_jax/training/program.py",
    "tests/training/test_program.py tests/training/test_fit.py -k program or plain or keeps",
)
LOSSES = "gramlin_jax/training/losses.py", "tests/training/test_losses.py"
SOURCES = (
    "gramlin_jax/training/sources.py",
    "tests/training/test_sources.py tests/training/test_checkpoints.py -k sources or other or another",
)
HOOKS = (
    "gramlin_jax/training/hooks.py",
    "tests/training/test_hooks.py -k divergence or chosen or logs",
)
RESUMED = "gramlin_jax/training/hooks.py", "tests/training/test_checkpoints.py -k apart"
CHECKPOINTS = "gramlin_jax/training/checkpoints.py", "tests/training/test_checkpoints.py -k apart"
SWEEPS = "gramlin_jax/training/sweeps.py", "tests/training/test_sweeps.py"
SWEPT = "gramlin_jax/training/sweeps.py", "tests/training/test_fit.py -k bad"
SHARED = "gramlin_jax/training/sweeps.py", "tests/training/test_devices.py -k refused or fewer"
FIT = "gramlin_jax/training/loop.py", "tests/training/test_fit.py -k bad"
PROVENANCE = (
    "gramlin_jax/taps/provenance.py",
    "tests/taps/test_uses.py tests/taps/test_cases.py -k found or uses",
)
DISGUISES = (
    "gramlin_jax/taps/disguises.py",
    "tests/taps/test_uses.py tests/taps/test_cases.py -k found or uses",
)
SHIFTED = "gramlin_jax/taps/shifted.py", "tests/taps/test_uses.py -k convolution"
AXES = "gramlin_jax/taps/axes.py", "tests/taps/test_axes.py -k square"
MATRICIZE = "gramlin_jax/taps/matricize.py", "tests/taps/test_cases.py -k against"
INTERPRETER = "gramlin_jax/taps/interpreter.py", "tests/taps/test_cases.py -k against"
TRACED = "gramlin_jax/taps/traced.py", "tests/taps/test_cases.py -k found"
SIZES = "gramlin_jax/taps/traced.py", "tests/taps/test_uses.py -k order"
CHECKED = "gramlin_jax/taps/traced.py", "tests/taps/test_transform.py -k bad"
RECALLED = "gramlin_jax/taps/traced.py", "tests/test_measure.py -k closed"
LAYERS = "gramlin_jax/taps/layers.py", "tests/taps/test_cases.py -k found"
SHIFTS = "gramlin_jax/taps/interpreter.py", "tests/taps/test_transform.py"
COMPAT = "gramlin_jax/taps/compat.py", "tests/taps/test_cases.py -k found or against"
FIG11 = "experiments/bert/batches.py", "tests/test_fig11.py -k batches"
ONE_HOT = "gramlin_jax/_measure/plan.py", "tests/test_measure_rows.py -k one_hot"
STAIRCASE = "experiments/staircase/claims.py", "tests/test_claims_staircase.py"
NEURAL = "experiments/neural_collapse/claims.py", "tests/test_claims_neural_collapse.py"
LINK = "experiments/neural_collapse/compute.py", "tests/test_neural_collapse.py -k smoke"
GRAM_ONLY = "experiments/gram_only/claims.py", "tests/test_fig02.py -k check or margin"
STATISTICS = "experiments/shared/statistics.py", "tests/test_shared.py"
CLAIMS = "experiments/shared/claims.py", "tests/test_shared.py"
MEASURES = "experiments/shared/measures.py", "tests/test_shared.py -k means"
LOST = "experiments/shared/claims.py", "tests/test_lost.py"
LOST_RUNS = "experiments/shared/lost.py", "tests/test_lost.py"
STREAM = "gramlin_jax/_measure/stream.py", "tests/test_stream.py"
STREAMED = "gramlin_jax/_measure/stream.py", "tests/test_measure.py -k bad"
ENTRIES = "gramlin_jax/metrics/registry.py", "tests/test_measure_rows.py"
OWN = "gramlin_jax/metrics/registry.py", "tests/test_measure.py -k own"
NEEDS = "gramlin_jax/_measure/batch.py", "tests/test_measure.py -k needed"
MEASUREMENT = "gramlin_jax/_measure/measurement.py", "tests/test_measure.py -k saved"
SAVED_ROWS = "gramlin_jax/_measure/measurement.py", "tests/test_measure_rows.py"
TABLE = "gramlin_jax/_measure/measurement.py", "tests/test_measure.py -k real_targets"
MEMORY = "gramlin_jax/support/memory.py", "tests/test_measure.py -k second_call"
FEATURES = (
    "gramlin_jax/_moments/features.py",
    "tests/test_additive.py tests/test_moments.py -k whole or properties or definition or repetitions or neutral or bad or blocks or empty",
)
ADDITIVE = "gramlin_jax/_moments/additive.py", "tests/test_additive.py"
ROWS = "gramlin_jax/taps/rows.py", "tests/test_gradients.py -k jacobian or told"
MOVED = "gramlin_jax/taps/rows.py", "tests/test_measure.py -k follow"
POSITIONS = "gramlin_jax/taps/rows.py", "tests/test_measure_rows.py"
NAMED = "gramlin_jax/metrics/registry.py", "tests/test_measure.py -k needed"
MEASURE = "gramlin_jax/_measure/finish.py", "tests/test_measure_options.py"
READ = "gramlin_jax/_measure/finish.py", "tests/test_measure_rows.py"
LABELS = "gramlin_jax/_measure/finish.py", "tests/test_measure_metrics.py"
TURNS = "gramlin_jax/_measure/finish.py", "tests/test_measure.py -k take_turns"
BACKWARD = "gramlin_jax/_measure/finish.py", "tests/test_measure.py -k reversed_scan"
TOKENS = "gramlin_jax/_measure/finish.py", "tests/test_measure.py -k label_for_each_token"
PROJECTED = "gramlin_jax/_measure/plan.py", "tests/test_measure_options.py"
TRACING = "gramlin_jax/_measure/tracing.py", "tests/test_measure_rows.py"
PLAN = "gramlin_jax/_measure/plan.py", "tests/test_measure_inputs.py -k mix"
PHASE = "experiments/shared/statistics.py", "tests/test_claims_neural_collapse.py"

HEALTH = "gramlin_jax/metrics/health.py", "tests/metrics/test_health.py"
OF_EACH = "gramlin_jax/_moments/gradients.py", "tests/test_measure_metrics.py -k noise"
ENTROPY = "gramlin_jax/metrics/spectra.py", "tests/metrics/test_health.py -k entropy"
SEPARATION = "gramlin_jax/metrics/separation.py", "tests/metrics/test_separation.py"
WIDTHS = "gramlin_jax/widths.py", "tests/test_widths.py -k standard or outputs or refused"
SYMPTOMS = "gramlin_jax/_measure/symptoms.py", "tests/test_diagnosis.py -k limits or fall"
PLANTED = "gramlin_jax/_measure/symptoms.py", "tests/test_diagnosis.py -k planted"
BEGAN = "gramlin_jax/_measure/diagnosis.py", "tests/test_diagnosis.py -k stop_being or checked"
FORECAST = "gramlin_jax/_measure/forecast.py", "tests/test_forecast.py -k hand or only or bytes"
TRIED = "gramlin_jax/_measure/plan.py", "tests/test_forecast.py -k nothing"
RECORDS = "gramlin_jax/_measure/records.py", "tests/test_records.py -k not frames"
APPENDED = "gramlin_jax/support/files.py", "tests/test_records.py -k kill or disk"
FOREIGN = "gramlin_jax/support/files.py", "tests/test_loggers.py -k else"
LOGGED = "gramlin_jax/loggers.py", "tests/test_loggers.py -k not biases"
COMPARED = "gramlin_jax/_measure/comparison.py", "tests/test_records.py -k comparison"
PROBE = (
    "gramlin_jax/_measure/probe.py",
    "tests/test_probe.py -k bits or reads or says or static or refused",
)
SPREAD = "gramlin_jax/_measure/probe.py", "tests/test_probe.py -k shard_map"
FORGOTTEN = "gramlin_jax/_measure/forgetting.py", "tests/test_probe.py -k window or fade"
PACKED = "gramlin_jax/_measure/packing.py", "tests/test_probe.py -k places or window"
CLASSES = "gramlin_jax/_moments/by_class.py", "tests/test_moments.py -k by_class"
CONSTANT = "gramlin_jax/_moments/features.py", "tests/metrics/test_scale.py -k constant"
FOUND = "gramlin_jax/taps/attention.py", "tests/test_attention.py -k no_attention or two"
ATTENTION = "gramlin_jax/taps/attention.py", "tests/test_attention.py -k half or planted or grouped"
RULES = "gramlin_jax/taps/provenance.py", "tests/test_attention.py -k linen"
QUERIES = (
    "gramlin_jax/_moments/attention.py",
    "tests/test_attention.py -k half or planted or number",
)
COUNTED = "gramlin_jax/_measure/batch.py", "tests/test_attention.py -k labels"
WEIGHTED = "gramlin_jax/_measure/plan.py", "tests/test_attention.py -k labels"
ATTENDED = "gramlin_jax/_measure/probe.py", "tests/test_attention.py -k probe"
HEADS = "gramlin_jax/metrics/layer_sums.py", "tests/test_attention.py -k planted"
NOTED = "gramlin_jax/_measure/finish.py", "tests/test_attention.py -k note or planted"
BESIDE = "gramlin_jax/taps/traced.py", "tests/test_attention.py -k two or not_asked"

MUTATIONS = [
    Mutation(*place, *change)
    for place, change in (
        # target linearity
        (LINEARITY, ("adjusted: n in the place of n - 1", "* (m.count - 1) / left", "* m.count / left")),
        (LINEARITY, ("adjusted: no intercept among the degrees", "fit.rank - 1\n", "fit.rank\n")),
        (LINEARITY, ("noise floor over n", "at_most(rank / (m.count - 1), 1.0)", "at_most(rank / m.count, 1.0)")),
        (LINEARITY, ("held out: sign of the cross term", "- 2 * jnp.sum(b * test.cross", "+ 2 * jnp.sum(b * test.cross")),
        (LINEARITY, ("held out: means ignored", "+ test.count * jnp.sum((y - dot(h, b)) ** 2)", "+ 0 * test.count * jnp.sum((y - dot(h, b)) ** 2)")),
        (LINEARITY, ("no intercept: centred targets", "explained=fit.explained[:-1] - n * missing**2 / leverage", "explained=fit.explained[:-1]")),
        (LINEARITY, ("surrogate: a sum over targets", "return squares * (size * root) ** 2 / m.target_mean.shape[0]", "return squares * (size * root) ** 2")),
        (LINEARITY, ("surrogate: scale of centred features", "products, total = m.feature_products,", "products, total = m.feature_scatter,")),
        # least squares
        (REGRESSION, ("columns are not scaled", "jnp.where(penalised & (squares > 0), 1.0, squares)", "jnp.where(squares > 0, 1.0, squares)")),
        (REGRESSION, ("rank is absolute", "rtol * eigenvalues[-1]", "rtol")),
        (REGRESSION, ("NaN is an absent direction", "jnp.isfinite(gram).all() & jnp.isfinite(cross).all()", "jnp.isfinite(gram).all()")),
        (REGRESSION, ("constant columns count", "return jnp.where(jnp.sqrt(lax.stop_gradient(squares)) <= bound, 0.0, squares)", "return squares")),
        (REGRESSION, ("a ridge leaves small directions out", "jnp.where(penalised, 0.0, rtol * eigenvalues[-1])", "(rtol * eigenvalues[-1])")),
        (REGRESSION, ("the inverse has no ridge", "jnp.where(present, eigenvalues + ridge, 1.0)", "jnp.where(present, eigenvalues, 1.0)")),
        (REGRESSION, ("refinement without the ridge", "cross - dot(gram, b) - ridge * b", "cross - dot(gram, b)")),
        (REGRESSION, ("shrinkage is a count", "jnp.where(penalised, shares, present)", "jnp.where(penalised, present, present)")),
        (REGRESSION, ("the refinement forgets the penalty", "- dot(gram, b) - ridge * b", "- dot(gram, b)")),
        # neural collapse
        (COLLAPSE, ("rows of any sums are one-hot", "<= 1e-10 * varying).all()", "<= varying + jnp.inf).all()")),
        (COLLAPSE, ("soft targets are one-hot", "jnp.allclose(squares, m.target_mean, rtol=1e-6)", "jnp.allclose(squares, squares)")),
        (COLLAPSE, ("means centred at the samples' mean", "a = apart - center\n", "a = apart\n")),
        (COLLAPSE, ("NC1 keeps the scatter between classes", "(inverse * dot(scatter, inverse)).sum() - between.sum()", "(inverse * dot(scatter, inverse)).sum()")),
        (COLLAPSE, ("classes' shares are equal in NC1", "between = share[None] * dot", "between = 1 / classes * dot")),
        (COLLAPSE, ("angles: sign of 1/(C - 1)", "cosines + 1 / (classes - 1)", "cosines - 1 / (classes - 1)")),
        (COLLAPSE, ("ETF: not of norm 1", "/ (classes - 1) ** 0.5\n", "/ classes**0.5\n")),
        (COLLAPSE, ("distances: half the cross term", "lengths[None] - 2 * gram", "lengths[None] - gram")),
        (COLLAPSE, ("NC3: norm not squared", "a / norm(a)) ** 2", "a / norm(a))")),
        (COLLAPSE, ("offset without the bias", "dot(kernel.T, center) + bias", "dot(kernel.T, center)")),
        (COLLAPSE, ("offset: factor of the classes", "/ len(bias) ** 0.5", "/ len(bias)")),
        (COLLAPSE, ("NC4: a tie is a mismatch", "jnp.where(own > squares.min(1), 1.0, 0.0)", "jnp.where(own >= squares.min(1), 1.0, 0.0)")),
        (COLLAPSE, ("NC4: half of the product", "(means**2).sum(0)[None] - 2 * dot(h, means)", "(means**2).sum(0)[None] - dot(h, means)")),
        (NRC, ("NRC1 of one direction fewer", "max(d - k, 0)", "max(d - k - 1, 0)")),
        (NRC, ("NRC3 at an end only", "at_most(at_least(inner, 0), sigma[0])", "at_most(at_least(inner, 0), 0)")),
        (NRC, ("gamma: root", "gamma = largest(jnp.where(cosines == top, -s, -jnp.inf)) ** 2", "gamma = -largest(jnp.where(cosines == top, -s, -jnp.inf))")),
        (COLLAPSE, ("rare classes have no sample", "FEWEST = 1e-9", "FEWEST = 1e-2")),
        (COLLAPSE, ("directions without Newton's step", "2 * basis - dot(basis, dot(basis.T, basis))", "basis")),
        (COLLAPSE, ("a class of one sample is let through", "flatnonzero(np.isclose(counts, 1))", "flatnonzero(np.isclose(counts, 0))")),
        (COLLAPSE, ("a class of one sample is let through under jit", "jnp.isclose(counts, 1)", "jnp.isclose(counts, 0)")),
        (LABELS, ("NC1 that is not defined has no reason", 'value.get("nc1", 0)', 'value.get("no", 0)')),
        # Gram, rotation
        (GRAM, ("Gram of the outputs", "return dot(kernel, kernel.T)", "return dot(kernel.T, kernel)")),
        (GRAM, ("the farther kernel is taken", "(2 * away + relative)) < 0", "(2 * away + relative)) > 0")),
        (GRAM, ("the step is always turned", "(2 * away + relative)) < 0", "(2 * away + relative)) < jnp.inf")),
        (ROTATION, ("shift of a million rounding errors", "SHIFT = 128", "SHIFT = 1e6")),
        (ROTATION, ("generator without its antisymmetry", "a = (s - s.T) / both", "a = s / both")),
        (ROTATION, ("a negative diagonal is no sign", "converged & _is_positive(_symmetric(found.product))", "converged")),
        (ROTATION, ("far turns are searched for", "FAR = 0.45 ", "FAR = 45 ")),
        (ROTATION, ("no turn is searched for", "FAR = 0.45 ", "FAR = 0 ")),
        (ROTATION, ("the basis does not follow", "rotation = h * gap / (gap**2 + (both / 10) ** 2)", "rotation = 0 * h * gap / (gap**2 + (both / 10) ** 2)")),
        (ROTATION, ("the cubic's constant", "3 * eye - rho * y", "2 * eye - rho * y")),
        (ROTATION, ("wide: second order of the turn", "(v + turn / 2)", "(v + turn)")),
        (ROTATION, ("wide: the turn is not corrected", "dot(weight, turn) - dot(error, u) / 2", "dot(weight, turn)")),
        (ROTATION, ("polishing with a whole step", "(state.error + dot(state.error, state.turn)) / 2", "(state.error + dot(state.error, state.turn))")),
        # virtual covariance
        (VIRTUAL, ("virtual update upwards", "return (x - jnp.asarray(learning_rate", "return (x + jnp.asarray(learning_rate")),
        (VIRTUAL, ("first order of one side", "-rate * (s + jnp.swapaxes(s, -1, -2))", "-2 * rate * s")),
        (VIRTUAL, ("second order by the rate once", "+ rate**2 * squares", "+ rate * squares")),
        (VIRTUAL, ("change of the Gram without its second order", "+ jnp.swapaxes(cross, -1, -2) + matmul(step, step_t)", "+ jnp.swapaxes(cross, -1, -2)")),
        (COSINES, ("alignment is not normalised", "/ jnp.sqrt(squares)", "/ squares")),
        (COSINES, ("alignment of small steps underflows", "a, b = (m / unit for m, unit in zip((a, b), units, strict=True))", "a, b = (m * 1.0 for m in (a, b))")),
        # optimisers
        (OPTIM, ("complement: the other way round", "_gram_only_step(after, before, basis)", "_gram_only_step(before, after, basis)")),
        (OPTIM, ("a step that is not finite is hidden", "stepped = jnp.where(jnp.isfinite(change).all(), stepped, update)", "stepped = jnp.where(jnp.isfinite(change).all(), stepped, 0)")),
        (OPTIM, ("Haiku's kernels are not found", 'KERNELS = "kernel", "w"', 'KERNELS = "kernel", "weight"')),
        (OPTIM, ("three axes are a kernel", "if leaf.ndim == 3:", "if leaf.ndim == 6:")),
        (OPTIM, ("NNX's parameters are not found", 'if name != "value"', 'if name != "values"')),
        # registry
        # survived once:
        (REGISTRY, ("virtual share of the kernel's norm", "frobenius(_virtual(layer)) / frobenius(matmul(kernel, jnp.swapaxes(kernel, -1, -2)))", "frobenius(_virtual(layer)) / frobenius(kernel)")),
        # survived once:
        (REGISTRY, ("virtual alignment without its learning rate", "expanded(*products, layer.learning_rate)", "expanded(*products, 1.0)")),
        (REGISTRY, ("surrogate is not normalised", "layer.kernel, normalized=True", "layer.kernel, normalized=False")),
        (ENTRIES, ("the surrogate reads any features", '["rows", "kernel"]', '["features", "kernel"]')),
        (ENTRIES, ("one of the needs is enough", "there = all(layer.has", "there = any(layer.has")),
        (OWN, ("a plain function gets no sums", "metric.needs or EVERYTHING", "metric.needs")),
        (NAMED, ("a metric keeps its own name", "dataclasses.replace(metric, name=name)", "metric")),
        # moments
        (FEATURES, ("merger: pairs of means weigh too much", "pairs = self.count * share", "pairs = count * share")),
        (FEATURES, ("merger: the mean moves too far", "jnp.where(others < own, a + others * (b - a), b - own * (b - a))", "b")),
        (FEATURES, ("merger: deviations are not squared", "other.target_scatter + _squares(pairs, y)", "other.target_scatter + pairs[..., None] * y")),
        (FEATURES, ("parts: means are summed", "return first + total(share * (parts - first))", "return first + total(parts - first)")),
        (FEATURES, ("parts: cross scatter without the means", "cross_scatter=total(self.cross_scatter + _outer(n, h, y))", "cross_scatter=total(self.cross_scatter)")),
        (FEATURES, ("parts: target scatter of means once", "total(self.target_scatter + _squares(n, y))", "total(self.target_scatter + y**2)")),
        (FEATURES, ("products: squared count", "_outer(self.count, self.feature_mean, self.target_mean)", "_outer(self.count**2, self.feature_mean, self.target_mean)")),
        (FEATURES, ("products of targets without their means", "self.target_scatter + _squares(self.count, self.target_mean)", "self.target_scatter")),
        (FEATURES, ("weights do not count in the scatter", "h if weights is None else h * w[:, None]", "h")),
        (SCALE, ("rounding is left of constant columns", "~(jnp.sqrt(squares) <= jnp.sqrt(count) * 2.0**-80 * abs(mean))", "squares >= 0")),
        (FEATURES, ("weights do not count in the targets", "return mean, rows, ((w[:, None] * rows) * rows).sum(0)", "return mean, rows, (rows**2).sum(0)")),
        (FEATURES, ("a batch of masked samples is NaN", "w / jnp.where(count > 0, count, 1.0)", "w / count")),
        (FEATURES, ("no samples and no samples are NaN", "jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), 0.0)", "part / whole")),
        (FEATURES, ("a negative weight is let through", "bool((weights < 0).any())", "bool((weights < -1).any())")),
        # survived once:
        (CONSTANTS, ("constant columns: 1e-8", "CONSTANT = 2.0**-48", "CONSTANT = 1e-8")),
        (ADDITIVE, ("the last block is left out", "    if rest:\n", "    if rest > 1:\n")),
        (ADDITIVE, ("blocks overlap", "else jnp.int64) * batch_size", "else jnp.int64) * 1")),
        (ADDITIVE, ("batches of an iterator: the last one only", "total = part if total is None else _jitted_add(total, part)", "total = part")),
        (ADDITIVE, ("sums of other widths add", "if shapes[0] != shapes[1]:", "if len(shapes[0]) != len(shapes[1]):")),
        (ADDITIVE, ("counts stand behind the sums' axes", "(*jnp.shape(count), *[1] * (jnp.ndim(sums) - jnp.ndim(count)))", "(*[1] * (jnp.ndim(sums) - jnp.ndim(count)), *jnp.shape(count))")),
        (ADDITIVE, ("any integer is neutral", "isinstance(other, int) and other == 0", "isinstance(other, int)")),
        (GRADIENTS, ("sums: gradients of the mean loss", "summed(n, kernel_gradient)", "summed(1.0, kernel_gradient)")),
        (GRADIENTS, ("sums: products by n once", "summed(n**2, products)", "summed(n, products)")),
        (GRADIENTS, ("products by the count once", "self.output_sum / beside(self.count, self.output_sum) ** 2", "self.output_sum / beside(self.count, self.output_sum)")),
        (GRADIENTS, ("a loss of integers is let through", " or not jnp.issubdtype(value.dtype, jnp.floating)", "")),
        (SELECTED, ("gradients of all layers are summed", "if names is None or name in names:", "if True:")),
        # survived once:
        (JACOBIANS, ("Jacobian: squares of probes too large", "squares.sum(-1) * factor**2", "squares.sum(-1) * factor**2 / scale")),
        (JACOBIANS, ("Jacobian: products of probes are a sum", "products * factor[..., None, None]", "products * factor[..., None, None] / scale")),
        (JACOBIANS, ("Jacobian: one probe for all samples", "random_signs(key, (probes, *out.shape), out.dtype)", "random_signs(key, (probes, 1, *out.shape[1:]), out.dtype)")),
        (JACOBIANS, ("Jacobian: the mean is a sum", "return self.products / beside(self.count, self.products)", "return self.products")),
        (JACOBIANS, ("Jacobian: samples that cannot be told apart are left out", "if traced.layers.sites[name].has_kernel:\n            raise", "if False:\n            raise")),
        (LAST, ("last layer: values are constants", "[Provenance(data=True)] * len(types)", "[CONSTANT] * len(types)")),
        (LAST, ("last layer: of another site", "zip(sorted(shapes), found", "zip(reversed(sorted(shapes)), found")),
        (LAST, ("last layer: of the whole output", "return outputs(output) if outputs else output", "return output")),
        (NOTHING, ("last layer: told by J alone", "layer.fixed_jacobian | all_identity(layer.jacobians)", "jnp.asarray(all_identity(layer.jacobians))")),
        (NOTHING, ("last layer: never told by J", "layer.fixed_jacobian | all_identity(layer.jacobians)", "jnp.asarray(layer.fixed_jacobian)")),
        (NOTHING, ("no reason for a group without outputs", "if not np.any(layer.jacobians.products, (-2, -1)).all():", "if not np.any(layer.jacobians.products):")),
        (NOTHING, ("no reason for a group whose kernel is zero", "if not np.any(layer.kernel, (-2, -1)).all():", "if not np.any(layer.kernel):")),
        (SQUARE, ("second moments of any shape", "if size is None and jacobian.shape[0] != jacobian.shape[1]:", "if False:")),
        (SQUARE, ("second moments of another size than the kernel's", "if size is not None and jacobian.shape != (size, size):", "if False:")),
        (SQUARE, ("second moments that are not symmetric", "abs(array - array.T).max() > 1e-6", "abs(array - array.T).max() > 1e6")),
        (RANGE, ("a kernel of NaN has rank 0", "jnp.where(jnp.isnan(squares), jnp.nan, inside)", "jnp.where(jnp.isnan(squares), 0, inside)")),
        (EQUAL, ("vectors of equal eigenvalues are determined", "jnp.minimum(gaps[:-1], gaps[1:])", "values")),
        (EQUAL, ("a vector needs no gap to the one before", "jnp.minimum(gaps[:-1], gaps[1:])", "gaps[1:]")),
        (EQUAL, ("a vector needs no gap to the next", "jnp.minimum(gaps[:-1], gaps[1:])", "gaps[:-1]")),
        (EQUAL, ("equal singular values count one by one", "jnp.cumsum(gaps > rank_tolerance", "jnp.cumsum(gaps > -rank_tolerance")),
        (EQUAL, ("equal singular values count by their sum", "dot(equal, values) / equal.sum(1)", "dot(equal, values)")),
        (DIRECTIONS, ("overlaps: of any vectors of W", "distinct(of.squares) & distinct(values)", "distinct(values)")),
        (DIRECTIONS, ("overlaps: of any vectors of the AGOP", "distinct(of.squares) & distinct(values)", "distinct(of.squares)")),
        (DIRECTIONS, ("exponent: a fit through rounding errors", "rank_tolerance(len(x)) * lax.stop_gradient(of.captured).max()", "0")),
        (INFLUENCE, ("influence of directions outside of range(W)", "astype(jnp.float64) * of.inside", "astype(jnp.float64)")),
        (INFLUENCE, ("influence: a mean over all directions", "jnp.sqrt(of.inside.sum() *", "jnp.sqrt(len(moved) *")),
        (IN_FLOAT64, ("Jacobians of the ansatz in float32", "a.astype(jnp.float64), (params, kernels, x)", "a, (params, kernels, x)")),
        (TIDY, ("networks that diverged are not in the table", 'frame["rank_start"].notna()', 'frame["rank"].notna()')),
        (LAST_SAVED, ("saved: whether J is fixed", ', "classes", "fixed_jacobian"', ', "classes"')),
        (LAST_PROBED, ("a probe's Jacobians are of the loss too", "*wanted, self._logits, self", "*wanted, None, self")),
        (JACOBIANS, ("Jacobian: outputs of any number of rows", "if jnp.shape(out)[:1] != (n,):", "if False:")),
        (PROJECTION, ("lengths are not kept", "of_signs, (groups * limit,), jnp.float32)", "of_signs, (groups * limit,), jnp.float32) * 2")),
        # measure
        # survived once:
        (PROJECTED, ("the seed is ignored", "jax.random.fold_in(jax.random.key(seed), i)", "jax.random.fold_in(jax.random.key(0), i)")),
        (PROJECTED, ("one projection for all layers", "jax.random.fold_in(jax.random.key(seed), i)", "jax.random.fold_in(jax.random.key(seed), 0)")),
        # survived once:
        (TURNS, ("layers of a scan come one site after the other", "sorted(found, key=operator.itemgetter(0))", "found")),
        (BACKWARD, ("a reversed scan begins with its first step", "-i if back else i for", "i for")),
        (MEASURE, ("stacks of kernels read rows", " and len(site.stack) == site.layers\n", "\n")),
        (READ, ("convolutions read rows", 'dense = site.primitive == "dot_general" and', "dense =")),
        (MEASURE, ("projected features are read", "site.fan_in == how.width <= plan.width_limit", "site.fan_in == how.width")),
        (READ, ("positions side by side are read", "site.fan_in == how.width <= plan.width_limit", "how.width <= plan.width_limit")),
        (PROJECTED, ("features of just the limit are projected", "if how.width > plan.width_limit\n", "if how.width >= plan.width_limit\n")),
        (MEASURE, ("all layers of a scan have the first one's features", "lambda a: a[flat], moments", "lambda a: a[0], moments")),
        (MEASURE, ("all layers of a scan have the first one's gradients", "a[index] if np.ndim(a) else a", "a[0] if np.ndim(a) else a")),
        (BATCH, ("loss is not weighed by samples", "_times(scored.weight, passed.loss)", "_times(1, passed.loss)")),
        (LABELS, ("loss is a sum", 'loss=numbers["loss"] / numbers["weight"] if', 'loss=numbers["loss"] if')),
        # survived once:
        (BATCH, ("labels below 0", "return (labels < 0) | (labels >= classes)", "return labels >= classes")),
        (BATCH, ("labels above the classes", "return (labels < 0) | (labels >= classes)", "return labels < 0")),
        (BATCH, ("labels are not checked", 'if numbers["unknown"]:', 'if numbers["unknown"] > numbers["labels"]:')),
        (TOKENS, ("accuracy over samples", 'numbers["correct"] / numbers["labels"] if', 'numbers["correct"] / numbers["count"] if')),
        (TRACING, ("layers of another batch size differ", "first.keys() == second.keys() and all(", "True or all(")),
        (PLAN, ("reasons are lost", "        skipped |= unclear\n", "")),
        (NEEDS, ("a backward pass for features alone", "run_backward if OF_GRADIENTS & needs else run_forward", "run_backward")),
        (NEEDS, ("products of gradients always", 'products = "output_gradients" in needs', "products = True")),
        (NEEDS, ("Jacobians always", 'if "jacobians" in needs:', 'if needs:')),
        (MOVED, ("features that do not follow are measured", "> 1e-2 * spread + rounding", "> 1e2 * spread + rounding")),
        (MOVED, ("all samples stay in their places", "moved = jnp.asarray(other_places(n))", "moved = jnp.arange(n)")),
        (POSITIONS, ("positions are summed, not averaged", "return h.mean(-2)", "return h.sum(-2)")),
        (POSITIONS, ("any number of positions a label", "if tokens > 1 and each != tokens:", "if False:")),
        (ROWS, ("rows that split the batch are samples", "if len(grown) > 1 or site.rows[grown[0]] % n:", "if len(grown) > 1:")),
        (ROWS, ("which axis has the batch's size is taken at random", "if len(candidates) == 1:", "if candidates:")),
        (ROWS, ("samples are the fast index", "array, stack + axis, stack)", "array, stack + axis, -2)")),
        (MEASUREMENT, ("saved: whether rows are read", 'NUMBERS = "learning_rate", "reads_rows", ', 'NUMBERS = "learning_rate", ')),
        (SAVED_ROWS, ("saved: whether rows are means", '"pooled", ', "")),
        (READ, ("means over positions are all rows", "and several\n", "and False\n")),
        (READ, ("one position is not all of one", "rows) > plan.n", "rows) >= plan.n")),
        (MEASUREMENT, ("saved: gradients", "if value is not None\n        for field", 'if value is not None and name != "gradients"\n        for field')),
        (TABLE, ("accuracy of real targets is shown", '"" if math.isnan(self.accuracy) else', '"" if math.isinf(self.accuracy) else')),
        (STREAM, ("samples beyond the last whole batch", "n // size * size, n]", "n // size * size]")),
        (STREAM, ("batches do not spread over devices", "even = [s for s in near if s % devices == 0]", "even = list(near)")),
        (STREAMED, ("batches of other shapes", "if reference not in (None, form):", "if False:")),
        # support
        # survived once:
        (TOLERANCE, ("rank tolerance without its floor of 64", "return max(64, size) * 2.0**-52", "return size * 2.0**-52")),
        (TOLERANCE, ("rank tolerance of float32", "return max(64, size) * 2.0**-52", "return max(64, size) * 2.0**-23")),
        (DERIVATIVES, ("eigenvectors turn backwards", "gaps, size = values[None] - values[:, None]", "gaps, size = values[:, None] - values[None]")),
        (DERIVATIVES, ("equal eigenvalues turn each other", "equal = abs(gaps) <= rounding", "equal = abs(gaps) <= 0")),
        (DERIVATIVES, ("inverse root: twice the derivative", "dot(factor.T, change)) / 2", "dot(factor.T, change))")),
        (DERIVATIVES, ("inverse root: the ridge is constant", "+ of_ridge * factor", "")),
        (DERIVATIVES, ("a root has an infinite derivative at 0", "jnp.sqrt(jnp.where(zero, 1, a))", "jnp.sqrt(a)")),
        (GRAM_RULE, ("derivative of the step without its rotation", "return dot(k2, _polar(product, _polar_by_svd).T)", "return k2")),
        (GRAM_RULE, ("derivative of the step turned backwards", "return dot(k2, _polar(product, _polar_by_svd).T)", "return dot(k2, _polar(product, _polar_by_svd))")),
        (POLAR, ("polar factor: no part outside of its range", "+ dot(outside, inverse)", "")),
        (POLAR, ("polar factor turns backwards", "dot(turned - turned.T, vectors)", "dot(turned.T - turned, vectors)")),
        (COMPARISONS, ("NaN differs from NaN", "equal_nan=numbers", "equal_nan=False")),
        (COMPARISONS, ("structures are not compared", "form == form_of_other and", "")),
        (PRECISION, ("float64 is not switched on", 'jax.enable_x64(True), jax.default_matmul_precision("highest")', "jax.enable_x64(False)")),
        (ROUNDED, ("products in the network are rounded", 'chosen or "highest"', 'chosen or "default"')),
        (WIDENED, ("float16 is not widened", "return a.astype(jnp.promote_types(a.dtype, jnp.float32))", "return a")),
        (CHECKS, ("infinity is let through", "(~jnp.isfinite(array)).sum()", "jnp.isnan(array).sum()")),
        (CHECKS, ("integers are let through", "if not jnp.issubdtype(array.dtype, jnp.floating):\n        hint", "if False:\n        hint")),
        (CHECKS, ("no samples are let through", "len(sizes) > 1 or 0 in sizes", "len(sizes) > 1")),
        (FILES, ("an old file is damaged by a write that fails", 'temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}.tmp")', 'temporary = path')),
        (FILES, ("a temporary file is left", "temporary.unlink(missing_ok=True)", "pass")),
        (FILES, ("another configuration is taken", "if not _same(old, new):", "if old is None:")),
        (FILES, ("NaN is written as it is", "if isinstance(value, float) and not np.isfinite(value):", "if False:")),
        (MEMORY, ("nothing is remembered", "return cached(*args, **kwargs)", "return make(*args, **kwargs)")),
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
        (SYNTHETIC, ("swiss roll without the second draw", "    random.uniform(size=n)  # scikit-learn draws", "    pass  # scikit-learn draws")),
        (SYNTHETIC, ("quadratic: trace on the diagonal only", "np.trace(form) / d\n", "np.trace(form) / d * np.eye(d)\n")),
        (SYNTHETIC, ("quadratic: classes are not balanced", "np.arange(1, num_classes) / num_classes", "np.arange(1, num_classes) / (num_classes + 1)")),
        (IMAGES, ("pixels over 256", "np.float32(255)", "np.float32(256)")),
        (FOLDERS, ("the oldest version", "return max(folders, key", "return min(folders, key")),
        (LOADING, ("digits over 15", "digits.images[part] / 16", "digits.images[part] / 15")),
        (LOADING, ("splits overlap", "else order[_DIGITS_TRAIN:]", "else order[_DIGITS_TRAIN - 1 :]")),
        (DATASET, ("labels below 0 are let through", "(labels < 0) | (labels >= num_classes)", "labels >= num_classes")),
        (DATASET, ("one sample fewer is taken", "or not 1 <= n <= len(self):", "or not 1 <= n < len(self):")),
        # training
        # survived once:
        (PROGRAM, ("one key for all batches of an epoch", "key = self.batch_key(hyper, epoch, batch)", "key = self.batch_key(hyper, epoch, 0)")),
        (PROGRAM, ("the last batch has the first one's key", "(order[-rest:], jnp.int32(whole))", "(order[-rest:], jnp.int32(0))")),
        (PROGRAM, ("one order for all epochs", 'jax.random.fold_in(jax.random.key(hyper["seed"]), epoch + 1)', 'jax.random.key(hyper["seed"])')),
        (PROGRAM, ("the order of the first epoch stays", "jax.random.permutation(_epoch_keys(hyper, epoch)[0], n)", "jax.random.permutation(_epoch_keys(hyper, 0)[0], n)")),
        (PROGRAM, ("the last batch counts in full", "share = rest / n", "share = rest / size")),
        (PROGRAM, ("the last batch is left out", "order[-rest:]", "order[:rest]")),
        (PROGRAM, ("metrics are of the last batch", "lambda m: m.mean(0), metrics", "lambda m: m[-1], metrics")),
        (LOSSES, ("labels out of range are not reported", "known = (labels >= 0) &", "known = (labels >= -1) &")),
        (SOURCES, ("data of another run are not noticed", '"data": fingerprint(self.data),', '"data": {},')),
        (SOURCES, ("batches of another run are not noticed", '"data": fingerprint(self.first)}', '"data": {}}')),
        (SOURCES, ("batches have one weight", "size / seen) if means", "1 / (i + 1)) if means")),
        (SOURCES, ("one key for all batches of an iterable", "self.run.batch_key(hyper, epoch, i), hyper)", "self.run.batch_key(hyper, epoch, 0), hyper)")),
        (HOOKS, ("divergence is not reported", "if not finite.all():", "if not finite.any():")),
        (HOOKS, ("divergence: the first finite epoch", "{finite.argmin() + 1}", "{finite.argmax() + 1}")),
        (HOOKS, ("all measurements are the first", "column = int(np.searchsorted(training.measured_at, training.epoch))", "column = 0")),
        (HOOKS, ("measured after the epoch at which it stands", "if training.epoch in training.measured_at:", "if training.epoch + 1 in training.measured_at:")),
        (HOOKS, ("the log has the first epoch only", "zip(names, history[:, training.epoch - 1], strict=True)", "zip(names, history[:, 0], strict=True)")),
        (RESUMED, ("the last epoch has no checkpoint", "last=training.epoch == training.epochs", "last=False")),
        # survived once:
        (RESUMED, ("the hook's interval is ignored", "interval=self.interval", "interval=0.0")),
        # survived once:
        (CHECKPOINTS, ("checkpoints: the interval is ignored", "if not last and now - self._saved < self._interval:", "if False:")),
        (CHECKPOINTS, ("checkpoints: the last one is left out", "if not last and now", "if now")),
        (SWEEPS, ("vmap whatever the size", "fits = runs * working_set <= CACHE_BYTES", "fits = working_set <= CACHE_BYTES")),
        (SWEEPS, ("the first name varies fastest", "itertools.product(*columns.values())", "itertools.product(*reversed(columns.values()))")),
        (SWEEPS, ("a single run is vmapped", "if runs == 1:", "if runs == 0:")),
        (SWEPT, ("seeds of 33 bits", "check_held(\"sweep['seed']\", seed, np.dtype(np.int32))", "check_held(\"sweep['seed']\", seed, np.dtype(np.int64))")),
        (SHARED, ("devices take unequal shares", "(runs % mesh.size or spans_processes(mesh))", "spans_processes(mesh)")),
        (SHARED, ("a checkpoint is of its number of devices", "return Compiled(jax.jit(spread, donate_argnums=donate), alone)", "return Compiled(jax.jit(spread, donate_argnums=donate), jax.jit(spread))")),
        (FIT, ("no epoch is a run", 'check_count("epochs", epochs)', 'check_count("epochs", epochs, 0)')),
        # attention
        (FOUND, ("a softmax by any sum", "if shape[axis] > 1 and {kept[i] for i in of} != {axis} - {keys}:", "if False:")),
        (FOUND, ("experts are keys", "if any(keys in o.columns for o in made) and not any(keys in o.rows for o in made):", "if False:")),
        (FOUND, ("weights mix over any axis", "if set(w.keys) <= set(over))", "if True)")),
        (FOUND, ("targets are values", "if values.leaves:", "if True:")),
        (ATTENTION, ("attention is not normalised", "jnp.log(total) - products / total", "-products")),
        (ATTENTION, ("keys behind a mask of -1e9 are seen", "HIDDEN = -1e8", "HIDDEN = -1e10")),
        (ATTENTION, ("groups of heads are the fast index", "[*queries.rows, *queries.columns]\n    order", "[*queries.rows, *queries.columns[::-1]]\n    order")),
        (ATTENTION, ("queries without a key see all", "logits = unshifted if unshifted.aval.shape == shape else logits", "logits = logits")),
        (RULES, ("a softmax with a rule of its own is not found", "== compat.CUSTOM_JVP and inside else []", "== compat.CUSTOM_JVP and not inside else []")),
        (QUERIES, ("queries of one key count", "jnp.where(keys > 1,", "jnp.where(keys > 0,")),
        (QUERIES, ("attention in nats", "/ jnp.log(jnp.maximum(keys, 2))", "/ 1.0")),
        (QUERIES, ("queries that do not count are NaN", "jnp.where(counted > 0, counted * share, 0)", "counted * share")),
        (QUERIES, ("attention above its range", "share = jnp.clip(", "share = jnp.nan_to_num(")),
        (COUNTED, ("queries have no weights", "weights = scored.weights.reshape(n, -1, 1)", "weights = jnp.ones((n, 1, 1))")),
        (COUNTED, ("queries in any order", "array if how.order is None else", "array if True else")),
        (WEIGHTED, ("weights of queries are not looked for", 'wanted |= {"rows"}', "pass")),
        (ATTENDED, ("a probe does not ask for attention", 'attention = "attention" in self._needs', "attention = False")),
        (HEADS, ("all heads are the first", "for at in range(0, heads, size))", "for at in [0] * number)")),
        (NOTED, ("no note of attention", "[lost] * bool(others)", "[]")),
        (NOTED, ("a note where there is attention", "* (not plan.traced.softmaxes)", "* 1")),
        (BESIDE, ("attention is always computed", "self.softmaxes if attention else {}", "self.softmaxes")),
        (BESIDE, ("heads of the last softmax", "jnp.concatenate(heads, -1), *parts)", "heads[-1], *parts)")),
        # taps
        (PROVENANCE, ("constants are data", "if not sources[operand].data or shape is None:", "if shape is None:")),
        (DISGUISES, ("sums over any axis are layers", "if mark.kind == kind and mark.axes & over]", "if mark.kind == kind]")),
        (PROVENANCE, ("kernels of a scan never change", "loops=a.loops | loop,", "loops=a.loops,")),
        (PROVENANCE, ("a carry settles at once", "if after == carries:", "if True:")),
        (DISGUISES, ("hidden kernels along any axes", "lies & set(over) and lies - {*over, *batch}:", "lies & set(over):")),
        (DISGUISES, ("a transposed product is forgotten", "frozenset(i for i, a in enumerate(moved) if a & mark.axes)", "frozenset()")),
        (DISGUISES, ("a gate is a mask", "if any(source.leaves for source in beside):", "if False:")),
        (DISGUISES, ("a masked scale is a kernel", "and mark.axes - {*over}]", "]")),
        (DISGUISES, ("any constant matrix sums", "and varying(atom) <= set(axes)", "")),
        (DISGUISES, ("any product that is transformed is a convolution", 'if any(mark.kind == "spectrum" for source in sources for mark in source.marks):', "if True:")),
        (DISGUISES, ("sums before a product are no sums", 'axes = params["dimension_numbers"][0]', "axes = ()")),
        (SHIFTED, ("a mixture of two is a convolution", "FEWEST = 3", "FEWEST = 2")),
        (SHIFTED, ("the same part may occur twice", "min(len(set(parts)) for", "min(len(list(parts)) for")),
        (SHIFTED, ("calls shift nothing", "return names <=", "return False and names <=")),
        (AXES, ("transposed kernels are not", "frozenset({ndim - 2}): True", "frozenset({ndim - 2}): False")),
        (AXES, ("axes of inputs may be those of outputs", "clear = not ins & outs and (", "clear = (")),
        (AXES, ("axes are not moved", 'tuple(each[axis] for axis in params["permutation"])', "tuple(each)")),
        (PROVENANCE, ("lookups of indices are lookups", "name in compat.LOOKUPS and index == 0", "name in compat.LOOKUPS and index == 1")),
        (PROVENANCE, ("a named activation is stacked", "layers if site.primitive == compat.NAME else", "False if site.primitive == compat.NAME else")),
        (DISGUISES, ("a product with a constant is one with data", "if not eqn.outvars or not any(source.data for source in sources):", "if not eqn.outvars:")),
        (MATRICIZE, ("patches: window before channels", "parts = [*([(1,)] if stack else []), *rows, (first + 1, first)]", "parts = [*([(1,)] if stack else []), *rows, (first, first + 1)]")),
        (MATRICIZE, ("kernel of a convolution: channels first", "[(*k[2:], k[1]), (k[0],)]", "[(k[1], *k[2:]), (k[0],)]")),
        (MATRICIZE, ("undo transposes again", "transpose(np.argsort(self.permutation))", "transpose(self.permutation)")),
        (MATRICIZE, ("groups: inner before outer", "split = (*shape[:channels], groups, size // groups", "split = (*shape[:channels], size // groups, groups")),
        (SHIFTS, ("a shift changes the network's type", "return value + undo(shift).astype(value.dtype)", "return value + undo(shift)")),
        (INTERPRETER, ("steps lead the stack", "destination=len(site.stack)", "destination=0")),
        (SHIFTS, ("a named activation is not shifted", "result if shift.outputs is None else _shifted(result, shift.outputs)", "result")),
        (SIZES, ("integer leaves are parameters", "np.size(leaf) * jnp.issubdtype(leaf.dtype, jnp.floating) for", "np.size(leaf) for")),
        (TRACED, ("NNX's arrays are named by their value", "paths = [path[:-1] for path in paths]", "pass")),
        (CHECKED, ("a perturbation of another shape is let through", "if given != getattr(site, shape):", "if False:")),
        (RECALLED, ("arrays closed over are remembered", "return bool(self.closed_over or compat.inner_constants(self._plan.inner.jaxpr))", "return bool(self.closed_over)")),
        (RECALLED, ("other constants are the same", "all(a is b for a, b in zip(*constants, strict=True))", "True")),
        (LAYERS, ("the smallest leaf names the site", "(-sizes[index], index)", "(sizes[index], index)")),
        (LAYERS, ("a second use has the first one's name", "while free in taken or stacked and", "while stacked and")),
        (COMPAT, ("scans run forwards", '("reverse", "unroll", "_split_transpose")', '("unroll", "_split_transpose")')),
        (COMPAT, ("custom rules are entered", '("custom_", "remat", "checkpoint", "shard_map")', '("remat", "checkpoint", "shard_map")')),
        # watching layers
        (HEALTH, ("a step of any learning rate", "ratio = jnp.abs(learning_rate) * frobenius(gradient)", "ratio = frobenius(gradient)")),
        (HEALTH, ("outputs change about their mean alone", "at_least(spread, 0) + (mean**2).sum()", "at_least(spread, 0)")),
        (HEALTH, ("a unit dies with one sample", "jnp.where(squares == 0, jnp", "jnp.where(squares < squares.max(), jnp")),
        (HEALTH, ("constant features have a rank", "jnp.where(varies, rank, 0)", "rank")),
        (HEALTH, ("gradients that are not finite are alive", "jnp.where(jnp.isfinite(squares).all(), dead.mean(), jnp.nan)", "dead.mean()")),
        (HEALTH, ("noise of the population", "* n / (n - 1)", "")),
        (PRODUCTS, ("Gram: blocks below the diagonal are not transposed", "jnp.swapaxes(blocks[j][i - j], -1, -2)", "blocks[j][i - j]")),
        (PRODUCTS, ("Gram: weights count on no side", "left, right = parts[0], parts[-1]", "left, right = parts[-1], parts[-1]")),
        (JACOBIANS, ("Jacobian: pairs of rows count once", "(2 - (p == q)) * dot", "dot")),
        (OF_EACH, ("positions do not meet in a sample's gradient", "(scale**2 * products).sum((-1, -2, -3))", "(scale**2 * products * jnp.eye(products.shape[-1])).sum((-1, -2, -3))")),
        (OF_EACH, ("gradients of samples of a mean", "scale, products = jnp.asarray(count).astype(jnp.float64)", "scale, products = jnp.ones((), jnp.float64)")),
        (OF_EACH, ("sums of samples' gradients leave float32", "magnitude(rows, (-2, -1))  #", "jnp.ones_like(rows[..., :1, :1])  #")),
        (ENTROPY, ("entropy is not over its largest value", "at_least(entropy / np.log(d), 0)", "at_least(entropy, 0)")),
        (SEPARATION, ("as many degrees of freedom as layers", "len(values) - 2) * error", "len(values)) * error")),
        (SEPARATION, ("NC1 itself over depth", "np.log(values))", "values)")),
        (WIDTHS, ("each width has its own seeds' logs", "np.repeat(np.log(widths), seeds)", "np.tile(np.log(widths), seeds)")),
        (WIDTHS, ("a sum over coordinates", "(after - before).astype(jnp.float32) ** 2).mean()", "(after - before).astype(jnp.float32) ** 2).sum()")),
        (WIDTHS, ("what shrinks is stable", "if high < -TOLERANCE:", "if high < -9:")),
        (WIDTHS, ("one step more", "length=steps)", "length=steps + 1)")),
        (SYMPTOMS, ("no chance at the floor", "_deviation(floor, rows.get(layer, math.inf))", "0.0")),
        (SYMPTOMS, ("two classes need a second direction", "(possible - 1) / 10", "possible / 10")),
        (SYMPTOMS, ("updates explode late", "LARGEST, USUAL, SMALLEST = 1.0,", "LARGEST, USUAL, SMALLEST = 1.1,")),
        (SYMPTOMS, ("updates vanish by themselves", "if value < SMALLEST * median:", "if value < SMALLEST:")),
        (SYMPTOMS, ("half of the units may die", "if DEAD < share < 1:", "if DEAD <= share < 1:")),
        (SYMPTOMS, ("a converged network is not reached", "if not others and numbers.loss == 0:", "if False:")),
        (SYMPTOMS, ("memorisation since the first step", "best, (floor, rows) = int(other.argmax())", "best, (floor, rows) = 0 * int(other.argmax())")),
        (SYMPTOMS, ("held-out samples with their floor", "return (value - floor) / (1 - floor) if floor", "return value if floor")),
        (SYMPTOMS, ("a fall that training samples share", "and own[-1] > own[best] + LOST", "")),
        (PLANTED, ("gradients are lost first in the first layer", "Symptom(backward[-1], len(backward)", "Symptom(backward[0], len(backward)")),
        (PLANTED, ("features are lost last", "first = forward[0]", "first = forward[-1]")),
        (PLANTED, ("only the last layer is at its floor", "elif before or layer == numbers.layers[-1]:", "elif layer == numbers.layers[-1]:")),
        (BEGAN, ("values are not finite at each step", "            break\n", "            continue\n")),
        (BEGAN, ("what cannot be checked is not said", "if absent := missing(series[last], metrics):", "if absent := missing(series[last], metrics) and []:")),
        (FORECAST, ("a backward pass costs as much as a forward one", "(3 if", "(2 if")),
        (FORECAST, ("products with the targets are free", "d * (d + k)", "d * d")),
        (FORECAST, ("projections are free", "2 * each * how.width * d if how.width > d else 0", "0")),
        (FORECAST, ("bytes of four", "leaf.dtype.itemsize", "4")),
        (TRIED, ("a dry run tries the rows", "if not options.tried:", "if False:")),
        (RECORDS, ("what was not written is lost", "self._unwritten + line", "line")),
        (RECORDS, ("each step on a full disk is shown", "if not failed_before:", "if True:")),
        (RECORDS, ("what was written is written again", 'self._unwritten = b""\n        except', "pass\n        except")),
        (RECORDS, ("steps after a resume stay", ">= step:", "== step:")),
        (RECORDS, ("checksums are not compared", "if checksum != _checksum(record):", "if False:")),
        (RECORDS, ("infinite numbers are null", "return str(value) if isinstance(value, float)", "return None if isinstance(value, float)")),
        (APPENDED, ("torn lines stay", "file.truncate(whole)\n            try:", "pass\n            try:")),
        (APPENDED, ("a full disk tears a line", "except OSError:\n                file.truncate(whole)", "except OSError:\n                pass")),
        (APPENDED, ("a line without its line feed is cut off", "if torn and is_json(torn):", "if torn and False:")),
        (FOREIGN, ("what is no line of JSON is cut off", "            elif torn:\n                check_lines(path, begin)\n", "")),
        (FOREIGN, ("files of something else are let through", "if not is_blank:", "if False:")),
        (LOGGED, ("each error of a logger is shown", "if index not in self._failed:", "if True:")),
        (COMPARED, ("before less after", "self.after[layer][name] - value", "value - self.after[layer][name]")),
        (COMPARED, ("missing layers on the other side", '{"first": self.only_before, "second": self.only_after}', '{"second": self.only_before, "first": self.only_after}')),
        (PROBE, ("the first call is not watched", "state.step % self.every == 0", "state.step % self.every == 1")),
        (PROBE, ("watched calls are not counted", "watched=state.watched + 1", "watched=state.watched")),
        (PROBE, ("the caller's choice is ignored", "        if watch is None:", "        if True:")),
        (PROBE, ("a static choice is left to the device", "isinstance(watch, bool | np.bool_)", "watch is True")),
        (PROBE, ("states of other probes are let through", "if given != wanted:", "if False:")),
        (SPREAD, ("sums of one device", "sums = _over_devices(sums, axis_name)", "pass")),
        (FORGOTTEN, ("the window's first batch alone", "at = watched % window", "at = 0 * watched")),
        (FORGOTTEN, ("nothing fades", "else factor * sums", "else sums")),
        (FORGOTTEN, ("moments do not fade", "sums.scaled(factor) if", "sums if")),
        (PACKED, ("small sums one place on", "for size in sizes if size < SMALL]", "for size in sizes[::-1] if size < SMALL]")),
        (CLASSES, ("classes centred about 0", "rows - mean[:, None] * rows.sum(0)[None]", "rows")),
        (CLASSES, ("unknown labels count", 'mode="drop", wrap_negative_indices=False', 'mode="clip"')),
        (CONSTANT, ("constant columns keep their rounding", "jnp.where(_varies(squares, mean, count)[None], rows, 0)", "rows")),
        # two networks, and deep linear ones
        (SIMILARITY, ("HSIC pairs samples with themselves", "products[p, q] * n / (n - 2)", "products[p, q]")),
        (SIMILARITY, ("HSIC: no term of the totals", "+ totals[p] * totals[q]", "- totals[p] * totals[q]")),
        (SIMILARITY, ("R² counts the rotation once", "2 * (a * cross).sum() - turned", "(a * cross).sum() - turned")),
        (SIMILARITY, ("eigenvectors from the smallest", "[1][:, : -components - 1 : -1]", "[1][:, :components]")),
        (PAIRS, ("norms move by δ once", "+ 2 * (along + across)", "+ (along + across)")),
        (PAIRS, ("norms: no scatter along both shifts", "+ 4 * (times(p, q) * shifts[q]).sum(-1)", "+ 0 * (times(p, q) * shifts[q]).sum(-1)")),
        (RAINBOW, ("kernels are drawn without 1/√o", "np.sqrt(outputs).astype(wide.dtype)", "np.ones(()).astype(wide.dtype)")),
        (RAINBOW, ("the rotation is read backwards", '"dc,pco->pdo", turn', '"dc,pdo->pco", turn')),
        (RAINBOW, ("filters learn", "fixed = jax.lax.stop_gradient(layer.filters)", "fixed = layer.filters")),
        (RAINBOW, ("the drawn bias is not the last row", "kernel, bias = kernel[:-1], kernel[-1]", "kernel, bias = kernel[1:], kernel[0]")),
        (DEEP, ("half-times of one layer", "tau * jnp.log(s / u0 - 1) / (2 * s)", "tau * jnp.log(s / u0 - 1) / s")),
        (DEEP, ("the upper series of deep modes", "jax.nn.softplus(logit) - m *", "jax.nn.softplus(logit) + m *")),
        (DEEP, ("balance is a sum", "difference = (a0 - b0) * both", "difference = a0**2 + b0**2")),
        (DEEP, ("a covariance step reads new kernels", "left = dot(left, kernel)", "left = dot(left, new[-1])")),
        (DEEP, ("divergence is let through", "if not after - before <= 1e-12 * abs(before):", "if not after - before <= 1e12 * abs(before):")),
        (LATENT, ("the untrained pair is no baseline", 'shared.sel(kind=["untrained", "permuted"])', 'shared.sel(kind=["permuted"])')),
        (LATENT, ("a share of all accuracy", "(drawn(result.data) - guess(result)) / (end - guess(result))", "drawn(result.data) / end")),
        # experiments
        # survived once:
        (STATISTICS, ("prediction interval without 1 + 1/s", "* (1 + 1 / ", "* (1 + 0 / ")),
        (STATISTICS, ("prediction interval of the mean", "(1 + 1 / ", "(1 / ")),
        (FIG11, ("all batches by length", "        if by_length:", "        if True:")),
        (ONE_HOT, ("rows of two ones are one-hot", "(ones.sum(1) == 1)", "(ones.sum(1) >= 0)")),
        # survived once:
        (PHASE, ("the terminal phase begins at 0", 'true["epoch"].where(true).min("epoch")', 'true["epoch"].where(true | ~true).min("epoch")')),
        (NEURAL, ("a terminal phase that some seeds reach is shown", "None if begin.isnull().any()", "None if begin.isnull().all()")),
        (LINK, ("the link: not over C - 1", "explained / (len(roots) - 1)", "explained / len(roots)")),
        # survived once:
        (GRAM_ONLY, ("margin of figure 2", "test.low > -MARGIN", "test.low > -10 * MARGIN")),
        (GRAM_ONLY, ("a tenth of the gain", "(LITTLE * original - complement)", "(original - complement)")),
        # survived once:
        (STATISTICS, ("± of the population", 'ddof = min(1, runs.sizes["seed"] - 1)', "ddof = 0")),
        (STATISTICS, ("interval: ± of the population", "z.std(ddof=1) / len(z) ** 0.5", "z.std() / len(z) ** 0.5")),
        (STATISTICS, ("partial correlation: sign", "ab - ac * bc", "ab + ac * bc")),
        (STATISTICS, ("correlations of values, not ranks", "_pearson(*(stats.rankdata(values, axis=-1) for values in (a, b)))", "_pearson(a, b)")),
        (STATISTICS, ("the interval is of 90 %", "stats.t.ppf(0.975, len(z) - 1)", "stats.t.ppf(0.95, len(z) - 1)")),
        (STATISTICS, ("no difference is one", "float(mean == 0)", "0.0")),
        (CLAIMS, ("one seed is enough", "if (known <= 0).any():", "if (known <= 0).all():")),
        (LOST, ("what is not known holds", "return True if known.size == values.size > 0 else None", "return True")),
        (LOST_RUNS, ("infinite losses are finite", "(~xr.ufuncs.isfinite(loss))", "xr.ufuncs.isnan(loss)")),
        (LOST_RUNS, ("guessing without its spread", "share + 2 * np.sqrt", "share + 0 * np.sqrt")),
        (LOST_RUNS, ("runs at chance count", "accuracy.isel(epoch=-1) <= chance", "accuracy.isel(epoch=-1) < 0 * chance")),
        (CLAIMS, ("undecided before false", "False if False in found else None if None in found else True", "None if None in found else False if False in found else True")),
        (MEASURES, ("losses are summed", '"loss": total["loss"] / n,', '"loss": total["loss"],')),
    )
]  # fmt: skip


def misplaced(root: Path) -> list[str]:
    """Names of mutations whose old text is not in its file exactly once, with the number found."""
    counts = [(m, (root / m.file).read_text().count(m.old)) for m in MUTATIONS]
    return [f"{m.file}: {m.name} ({count} times)" for m, count in counts if count != 1]
