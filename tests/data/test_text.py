"""Text: files written here, tokens against the definition, and the real files where they are."""

import re
from pathlib import Path

import numpy as np
import pytest

from gramlin_jax.data import IGNORED, Text, load, read_conllu, read_tsv, tokenize, wordpiece
from tests.data.prepared import use_names_of_prepared_shards

TOKENS = "[PAD] [UNK] [CLS] [SEP] the cat ##s sat did ##n ' t . caf ##e".split()
CONLLU = """# text = The cats didn't sit.
1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2\tcats\tcat\tNOUN\tNNS\t_\t3\tnsubj\t_\t_
3-4\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_
3\tdid\tdo\tAUX\tVBD\t_\t0\troot\t_\t_
4\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
4.1\tgone\tgo\tVERB\tVBN\t_\t_\t_\t_\t_

1\tSat\tsit\tVERB\tVBD\t_\t0\troot\t_\t_
"""


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(TOKENS) + "\n")
    return wordpiece(path)


def named(ids):
    return " ".join(TOKENS[i] for i in ids)


def test_words_are_split_and_sentences_padded(tokenizer):
    text = Text(["The cats sat.", "Café dog"], [0, 1], 2, "toy", "train", "by hand")
    tokens = tokenize(text, tokenizer, 8)
    assert named(tokens.ids[0]) == "[CLS] the cat ##s sat . [SEP] [PAD]"
    assert named(tokens.ids[1]) == "[CLS] caf ##e [UNK] [SEP] [PAD] [PAD] [PAD]"
    assert tokens.mask.tolist() == [[True] * 7 + [False], [True] * 5 + [False] * 3]
    assert not tokens.types.any() and tokens.y.tolist() == [0, 1] and tokens.cut == 0


def test_long_sentences_are_cut_and_counted(tokenizer):
    tokens = tokenize(
        Text(["the cat sat", "the"], [0, 0], 1, "toy", "train", "by hand"), tokenizer, 4
    )
    assert named(tokens.ids[0]) == "[CLS] the cat [SEP]" and tokens.cut == 1


def test_pairs_have_two_types(tokenizer):
    pair = Text([("the cat", "sat sat sat")], [2], 3, "toy", "train", "by hand")
    tokens = tokenize(pair, tokenizer, 8)
    assert named(tokens.ids[0]) == "[CLS] the cat [SEP] sat sat sat [SEP]"
    assert tokens.types[0].tolist() == [0] * 4 + [1] * 4
    assert named(tokenize(pair, tokenizer, 7).ids[0]) == "[CLS] the cat [SEP] sat sat [SEP]"


def test_a_word_is_labelled_at_its_first_token(tokenizer):
    words = Text([["cats", "didn't", "sat"]], [[3, 4, 5]], 6, "toy", "train", "by hand")
    tokens = tokenize(words, tokenizer, 10)
    assert named(tokens.ids[0]) == "[CLS] cat ##s did ##n ' t sat [SEP] [PAD]"
    kept = [IGNORED, 3, IGNORED, 4, IGNORED, IGNORED, IGNORED, 5, IGNORED, IGNORED]
    assert tokens.y[0].tolist() == kept
    cut = tokenize(words, tokenizer, 6)
    assert named(cut.ids[0]) == "[CLS] cat ##s did ##n [SEP]"
    assert cut.y[0].tolist() == [IGNORED, 3, IGNORED, 4, IGNORED, IGNORED]


def test_tsv(tmp_path):
    path = tmp_path / "sst2" / "train.tsv"
    path.parent.mkdir()
    path.write_text('sentence\tlabel\nno wit , "only\t0\na joy \t1\n')
    text = load("sst2", data_dir=tmp_path)
    assert text.samples == ['no wit , "only', "a joy "] and text.labels == [0, 1]
    assert repr(text) == f"Text(sst2 train: 2 samples, 2 classes; {path})"


def test_conllu(tmp_path):
    path = tmp_path / "en-train.conllu"
    path.write_text(CONLLU)
    text = read_conllu(path)
    assert text.samples == [["The", "cats", "did", "n't"], ["Sat"]]
    assert text.labels == [[5, 7, 3, 9], [15]]
    assert text.num_classes == 17


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_of_editors_change_nothing(tmp_path, mark, end):
    def written(name, content):
        path = tmp_path / name
        path.write_bytes((mark + content.replace("\n", end)).encode())
        return path

    head = CONLLU.index("1\t")  # a first line that is no comment
    read = read_conllu(written("a.conllu", CONLLU[head:]))
    assert read.samples == [["The", "cats", "did", "n't"], ["Sat"]]
    long = "long " * 40_000  # longer than Python's csv reads
    content = f"sentence\tlabel\na\u2028b\t1\n\n{long}\t0\n"
    read = read_tsv(written("a.tsv", content), num_classes=2)
    assert read.samples == ["a\u2028b", long] and read.labels == [1, 0]


def test_files_in_another_encoding_are_named(tmp_path):
    (tmp_path / "a.tsv").write_bytes("sentence\tlabel\n\u00e9\t1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.tsv is not text in UTF-8 .*wanted that"):
        read_tsv(tmp_path / "a.tsv", num_classes=2)


@pytest.mark.parametrize(
    ("sample", "label", "message"),
    [
        ("a", 0.5, "labels has 0.5 at 0: wanted integers"),
        ("a", "1", "labels has '1' at 0: wanted integers"),
        (["a", None], [0, 1], r"samples has \['a', None\] at 0: wanted a string, a pair"),
        (np.array(["a", "b"]), [0, 1], "samples has array.* at 0: wanted a string, a pair"),
        (("a", "b", "c"), 0, r"samples has \('a', 'b', 'c'\) at 0: wanted a string, a pair"),
    ],
)
def test_other_samples_and_labels_are_refused(sample, label, message):
    with pytest.raises(ValueError, match=message):
        Text([sample], [label], 2, "toy", "train", "by hand")


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_sentences_and_lists_of_words_are_not_mixed(order):
    """The tokenizer takes one kind; the other ended in its own error, or had no labels."""
    samples, labels = ["a", ("b", "c"), ["d", "e"]][order], [0, 1, [0, 1]][order]
    with pytest.raises(ValueError, match="samples has .*: wanted lists of words in all places or"):
        Text(samples, labels, 2, "toy", "train", "by hand")
    assert len(Text(["a", ("b", "c")], [0, 1], 2, "toy", "train", "by hand")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sentence\tscore\na\t0\n", "has columns ['sentence', 'score']: wanted sentence and label"),
        ("sentence\tlabel\na\tone\n", "has the label 'one' in line 2: wanted a number"),
        ("sentence\tlabel\na\t1\n\na\n", "has 1 columns in line 4: wanted 2"),
        ("sentence\tlabel\na\t1\t0\n", "has 3 columns in line 2: wanted 2"),
        ("sentence\tlabel\na\t\n", "has the label '' in line 2: wanted a number"),
        ("sentence\tlabel\na\t2\n", "labels has 2 at 0: wanted 0 to 1"),
        ("sentence\tlabel\na\t1\n \t0\n", "samples has an empty text at 1: wanted words"),
        ("sentence\tlabel\n", "samples has 0 entries and labels 0: wanted the same number, at"),
    ],
)
def test_other_tables_are_refused(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_tsv(path, num_classes=2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DET", "DTT", "has 'DTT' in line 2: wanted a part of speech, one of ADJ"),
        ("\t_\t_\n2", "\t_\n2", "has 9 columns in line 2: wanted 10"),
        ("1\tThe", "\u00b2\tThe", "has the number '\u00b2' in line 2: wanted 1, or 1-2 and 1.1"),
    ],
)
def test_other_treebanks_are_refused(tmp_path, old, new, message):
    path = tmp_path / "a.conllu"
    path.write_text(CONLLU.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_conllu(path)


def test_other_text_is_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="labels has 1 at 0: wanted one label of a sentence, or"):
        Text([["a", "b"]], [1], 2, "toy", "train", "by hand")
    with pytest.raises(ValueError, match=r"labels has \[1\] at 0: wanted one label"):
        Text([["a", "b"]], [[1]], 2, "toy", "train", "by hand")
    text = Text(["a"], [0], 2, "toy", "train", "by hand")
    with pytest.raises(ValueError, match="length is 2: wanted at least 3"):
        tokenize(text, tokenizer, 2)
    with pytest.raises(ValueError, match="length is 8.5: wanted an integer"):
        tokenize(text, tokenizer, 8.5)
    for classes in (2.5, "2", None):
        with pytest.raises(ValueError, match=f"num_classes is {classes!r}: wanted an integer"):
            Text(["a"], [0], classes, "toy", "train", "by hand")
    with pytest.raises(ValueError, match="n is 2: wanted 1 to 1, the samples of toy train"):
        text.take(2)
    with pytest.raises(ValueError, match="n is 1.0: wanted 1 to 1, the samples of toy train"):
        text.take(1.0)
    with pytest.raises(FileNotFoundError, match="missing: wanted a WordPiece vocabulary"):
        wordpiece(tmp_path / "none")
    (tmp_path / "letters.txt").write_text("a\nb\n[UNK]\n")
    with pytest.raises(ValueError, match=r"has no \[CLS\], \[SEP\], \[PAD\]: wanted the vocabul"):
        wordpiece(tmp_path / "letters.txt")


def test_missing_sets_say_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "glue" / "sst2"))):
        load("sst2", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="no ud_english_ewt: wanted a folder of that name"):
        load("ewt_pos", data_dir=tmp_path)


def write_tfds(root, folder, features, split, examples):
    """A set as TFDS lays it out, written by TFDS."""
    tfds = pytest.importorskip("tensorflow_datasets")
    path = root / folder / "1.0.0"
    path.mkdir(parents=True)
    identity = tfds.core.DatasetIdentity(
        name=folder.split("/")[0], version=tfds.core.Version("1.0.0"), data_dir=str(path),
        module_name=__name__,
    )  # fmt: skip
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features(tfds.features))
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=2, file_format="array_record")
    writer.initialize_splits([split])
    writer.add_examples({split: examples})
    writer.close_splits([split])
    use_names_of_prepared_shards(path, [split])


def test_reads_glue_as_tfds_writes_it(tmp_path):
    write_tfds(
        tmp_path, "glue/mnli",
        lambda kinds: {
            "premise": kinds.Text(), "hypothesis": kinds.Text(), "idx": kinds.Scalar(np.int32),
            "label": kinds.ClassLabel(num_classes=3),
        },
        "validation_matched",
        [
            {"premise": f"é{i}", "hypothesis": "b", "idx": i, "label": i % 3} for i in range(5)
        ],
    )  # fmt: skip
    text = load("mnli", "test", data_dir=tmp_path)
    assert text.samples == [(f"é{i}", "b") for i in range(5)] and text.labels == [0, 1, 2, 0, 1]


def test_reads_conll_as_tfds_writes_it(tmp_path):
    write_tfds(
        tmp_path, "conll2003/conll2003",
        lambda kinds: {
            "tokens": kinds.Sequence(kinds.Text()),
            **{
                name: kinds.Sequence(kinds.ClassLabel(num_classes=size))
                for name, size in {"pos": 47, "chunks": 23, "ner": 9}.items()
            },
        },
        "train",
        [
            {"tokens": ["EU", "rejects"], "pos": [22, 42], "chunks": [11, 21], "ner": [3, 0]},
            {"tokens": [], "pos": [], "chunks": [], "ner": []},
            {"tokens": ["Peter"], "pos": [22], "chunks": [11], "ner": [1]},
        ],
    )  # fmt: skip
    text = load("conll2003_ner", data_dir=tmp_path)
    assert text.samples == [["EU", "rejects"], ["Peter"]] and text.labels == [[3, 0], [1]]
    assert load("conll2003_pos", data_dir=tmp_path).labels == [[22, 42], [22]]


REAL = Path(__file__).parents[3] / "shared" / "text"


@pytest.mark.skipif(not REAL.exists(), reason="needs the real text")
def test_real_text():
    test, pos = load("sst2", "test", data_dir=REAL), load("ewt_pos", "test", data_dir=REAL)
    assert (len(test), len(pos)) == (872, 2077)
    tokenizer = wordpiece(REAL / "bert-base-uncased")
    tokens = tokenize(pos.take(50), tokenizer, 128)
    labelled = sum(map(len, pos.take(50).samples))
    assert tokens.cut == 0 and (tokens.y != IGNORED).sum() == labelled
    assert named_first(tokenize(test.take(1), tokenizer, 16), tokenizer) == (
        "[CLS] it ' s a charming and often affecting journey . [SEP]"
    )


def named_first(tokens, tokenizer):
    return " ".join(tokenizer.id_to_token(int(i)) for i in tokens.ids[0][tokens.mask[0]])
