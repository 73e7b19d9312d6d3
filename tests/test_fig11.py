"""Figure 11: hidden words, states that count, a run on text written here, claims."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bert import PRESETS
from experiments.bert.batches import trimmed_batches
from experiments.bert.claims import PAPER, check, table
from experiments.bert.compute import checkpoint_folder
from experiments.bert.measures import state_sums, weighted_loss
from experiments.bert.pretrain import SPECIAL, adamw, hidden_words
from experiments.registry import find
from experiments.runs import perform
from experiments.shared.results import Result, label
from gramlin_jax import target_linearity
from gramlin_jax.models.bert import BertClassifier, BertConfig

pytestmark = pytest.mark.runs

SMOKE = PRESETS["smoke"]


def test_hidden_words():
    """Of 400 sentences of 20 words: 15 % sought, of these 80 % masked, 10 % drawn, 10 % kept."""
    ids = jnp.full((400, 24), 7).at[:, 0].set(2).at[:, 21:].set(0)
    mask = ids > 0
    shown, places, sought = hidden_words(jax.random.key(0), ids, mask, 1000)
    assert places.shape == (400, 4) and bool((sought.sum(1) == 3).all())  # 0.15·20
    at = np.take_along_axis(np.asarray(shown), np.asarray(places), 1)[np.asarray(sought)]
    shares = [np.mean(at == 4), np.mean((at != 4) & (at != 7)), np.mean(at == 7)]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=3 * np.sqrt(0.16 / 1200))
    assert at[at != 4].min() >= len(SPECIAL)
    rest = np.ones(ids.shape, bool)
    np.put_along_axis(rest, np.asarray(places), ~np.asarray(sought), 1)
    np.testing.assert_array_equal(np.asarray(shown)[rest], np.asarray(ids)[rest])
    assert all(len(set(row)) == 4 for row in np.asarray(places).tolist())


def test_a_sentence_of_one_word_loses_it():
    ids = jnp.array([[2, 9, 3, 0, 0, 0, 0, 0]])
    _, places, sought = hidden_words(jax.random.key(0), ids, ids > 0, 1000)
    assert places[0, 0] == 1 and sought.tolist() == [[True, False]]


def test_the_rate_rises_then_falls():
    config = dataclasses.replace(SMOKE, warmup=0.25, decay=0.0)
    state = adamw(config, 0.4, 8).init(jnp.zeros(()))
    steps = []
    for _ in range(8):
        step, state = adamw(config, 0.4, 8).update(jnp.ones(()), state, jnp.zeros(()))
        steps.append(-float(step))
    np.testing.assert_allclose(
        steps, [0, 0.2, *(0.4 * (1 - np.arange(6) / 6))], atol=1e-5
    )  # Adam's step is the rate


@pytest.mark.parametrize("per_token", [False, True])
def test_states_of_labelled_tokens_alone_count(per_token):
    sizes = BertConfig(
        vocab_size=30, hidden_size=6, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=8,
    )  # fmt: skip
    model = BertClassifier(sizes, classes=3, per_token=per_token)
    rng = np.random.default_rng(0)
    ids = jnp.asarray(rng.integers(5, 30, (70, 5)))
    labels = rng.integers(0, 3, (70, 5) if per_token else 70)
    if per_token:
        labels[rng.random((70, 5)) < 0.4] = -100
    params = jax.jit(model.init)(jax.random.key(0), ids)
    whole = (ids, ids > 7, ids * 0), jnp.asarray(labels)
    data = [
        jax.tree.map(lambda a, rows=rows: a[rows], whole) for rows in (slice(20), slice(20, 70))
    ]
    found = jax.jit(functools.partial(state_sums, model))(params, data)
    logits, hidden = jax.jit(model.apply)(params, ids, ids > 7)
    kept = labels != -100
    h = np.asarray(hidden[1] if per_token else hidden[1][:, 0], np.float64)[kept]
    y = np.eye(3)[labels[kept]]
    design = np.concatenate([h, np.ones((len(h), 1))], 1)
    # A layer norm leaves d − 1 directions, and rounding in the last one.
    residual = y - design @ np.linalg.lstsq(design, y, rcond=1e-6)[0]
    wanted = 1 - (residual**2).sum() / ((y - y.mean(0)) ** 2).sum()
    last = jax.tree.map(lambda block: block[1], found["moments"])
    assert float(target_linearity(last)) == pytest.approx(wanted, abs=1e-6)
    right = np.asarray(logits).argmax(-1)[kept] == labels[kept]
    assert float(found["accuracy"]) == pytest.approx(right.mean(), abs=1e-6)
    losses, weights = weighted_loss(logits, jnp.asarray(labels))
    log = np.asarray(jax.nn.log_softmax(logits))[kept]
    assert float(losses.sum() / weights.sum()) == pytest.approx(
        -log[np.arange(len(log)), labels[kept]].mean(), rel=1e-5
    )


@pytest.mark.parametrize("by_length", (False, True))
def test_trimmed_batches(by_length):
    """Each sentence once an epoch, in another order, whole; by length beside others like it."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 41, 1000)
    mask = np.arange(48) < lengths[:, None]
    ids = np.where(mask, np.arange(1, 1001)[:, None], 0)
    epoch = trimmed_batches((ids, lengths), mask, 16, seed=0, by_length=by_length)
    seen = [list(epoch(0)), list(epoch(0)), list(epoch(1))]
    for passed in seen:
        assert [len(size) for _, size in passed].count(16) == 62
        for batch, size in passed:
            np.testing.assert_array_equal((batch > 0).sum(1), size)
            assert batch.shape[1] == -(-size.max() // 8) * 8
        assert sorted(np.concatenate([batch[:, 0] for batch, _ in passed])) == [*range(1, 1001)]
        computed = sum(batch.size for batch, _ in passed) / lengths.sum()
        assert computed < 1.25 if by_length else computed > 1.5
    firsts = [np.concatenate([batch[:, 0] for batch, _ in passed]) for passed in seen]
    assert (firsts[0] == firsts[1]).all() and (firsts[0] != firsts[2]).any()
    means = [size.mean() for _, size in seen[0]]
    assert abs(np.corrcoef(means, np.arange(63))[0, 1]) < 0.4  # short ones do not come first


WORDS = [("good", "fine", "great"), ("bad", "poor", "awful")]


@pytest.fixture
def text(tmp_path):
    """A folder with text as ``load`` finds it."""
    rng = np.random.default_rng(0)
    (tmp_path / "sst2").mkdir()
    (tmp_path / "ud_english_ewt").mkdir()
    for name in ("train", "dev"):
        rows = []
        for _ in range(40):
            label = rng.integers(2)
            rows.append(f"a {rng.choice(WORDS[label])} film it is\t{label}")
        (tmp_path / "sst2" / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows, ""]))
    for name in ("train", "test"):
        lines = []
        for _ in range(40):
            words = [("the", "DET"), (rng.choice(WORDS[0]), "ADJ"), ("film", "NOUN")]
            lines += [f"{i}\t{w}\t_\t{t}\t_\t_\t_\t_\t_\t_" for i, (w, t) in enumerate(words, 1)]
            lines.append("")
        (tmp_path / "ud_english_ewt" / f"en-{name}.conllu").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.runs
def test_smoke_run(text, tmp_path):
    config = dataclasses.replace(SMOKE, samples=40, measured=40)
    result, done = perform("fig11_bert", config, tmp_path / "run", str(text))
    assert not done and find("fig11").check(result) == []
    data = result.data
    assert data["target_linearity"].shape == (2, 2, 4, 3)
    assert data["epoch"].values.tolist() == [-1, 0, 1, 2]
    assert (abs(data["train_loss"].sel(epoch=-1).diff("seed")) > 0).all()  # random weights differ
    np.testing.assert_array_equal(  # all seeds have the pre-trained encoder
        data["target_linearity"].sel(epoch=0).isel(seed=0),
        data["target_linearity"].sel(epoch=0).isel(seed=1),
    )
    assert (data["target_linearity"].sel(task="sst2", layer=0) < 1e-6).all()  # [CLS] is [CLS]
    assert (tmp_path / "run" / "figure.png").exists()
    assert perform("fig11_bert", config, tmp_path / "run", str(text))[1]
    table = text / "sst2" / "dev.tsv"
    table.write_text(table.read_text().replace("\t1", "\t0"))
    with pytest.raises(ValueError, match="run of other data: its sst2 test is uint8"):
        perform("fig11_bert", config, tmp_path / "run", str(text))


def result(last, *, config=None, heldout=0.5, accuracy=0.9):
    """A result with that target linearity of the last layer by epoch, and half of it before."""
    config = config or dataclasses.replace(PRESETS["default"], tasks=("sst2",), seeds=2)
    last = np.asarray(last, float)
    linearity = last[:, None] * np.linspace(0, 1, config.layers + 1)
    shape = (len(config.tasks), config.seeds, *linearity.shape)
    arrays = {
        "target_linearity": np.broadcast_to(linearity, shape),
        "heldout": np.broadcast_to(heldout * linearity, shape),
        "noise_floor": np.broadcast_to(0.05 * np.arange(config.layers + 1), shape),
        **{name: np.full(shape[:3], accuracy) for name in ("train_accuracy", "test_accuracy")},
        **{name: np.full(shape[:3], 0.3) for name in ("train_loss", "test_loss")},
        "epochs": np.arange(-1, config.epochs + 1),
    }
    from experiments.bert import DIMENSIONS, coordinates

    data = label(arrays, DIMENSIONS, coordinates(config))
    chance = {"train": {"task": dict.fromkeys(config.tasks, 0.6)}}
    return Result(config, data, {"chance": chance})


def verdicts(*arguments, **keywords):
    return [claim.holds for claim in check(result(*arguments, **keywords))]


def test_claims_hold_and_fail():
    assert verdicts([0.2, 0.5, 0.8, 0.85, 0.9]) == [True] * 4
    assert verdicts([0.2, 0.1, 0.8, 0.85, 0.9])[0] is False
    assert verdicts([0.2, 0.5, 0.8, 0.85, 0.7])[1] is False
    assert verdicts([0.2, 0.5, 0.8, 0.85, -0.1])[2] is False
    assert verdicts([0.2, 0.5, 0.8, 0.85, 0.9], heldout=-1)[3] is False


def test_runs_at_chance_decide_nothing():
    assert verdicts([0.2, 0.5, 0.8, 0.85, 0.9], accuracy=0.5) == [None] * 4


def test_the_papers_numbers_are_compared_where_the_model_is_its():
    config = dataclasses.replace(PRESETS["paper"], tasks=("sst2",), seeds=2)
    random, pretrained, first, last = PAPER["sst2"]
    assert verdicts([random, pretrained, first, 0.95, last], config=config)[4] is True
    assert verdicts([random, pretrained + 0.06, first, 0.95, last], config=config)[4] is False


def test_the_table_has_a_row_for_each_stage():
    lines = table(result([0.2, 0.5, 0.8, 0.85, 0.9])).splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["random", "pre-trained", *["epoch"] * 3]
    assert "0.500 ± 0.000" in lines[2] and "0.250 ± 0.000" in lines[2]
    assert lines[2].split()[-4] == "0.200", "the floor of the last layer"
    alone = dataclasses.replace(PRESETS["default"], tasks=("sst2",), seeds=1)
    lines = table(result([0.2, 0.5, 0.8, 0.85, 0.9], config=alone)).splitlines()
    assert "±" not in lines[2] and "0.500" in lines[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("sst2", "sst2")}, "wanted different ones of sst2, mnli"),
        ({"tasks": ("imdb",)}, "wanted different ones of"),
        ({"warmup": 1.0}, "warmup is 1.0: wanted a share of the steps, below 1"),
        ({"length": 2}, "length is 2: wanted at least 3"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: wanted a finite number"),
    ],
)
def test_other_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMOKE, **changes)


def test_a_missing_checkpoint():
    with pytest.raises(FileNotFoundError, match="checkpoint is 'no-such-one': wanted a folder"):
        checkpoint_folder("no-such-one")
