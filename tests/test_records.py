import dataclasses
import json
import math
import sys
import threading
import warnings

import numpy as np
import pytest
from full import full_disk

from gramlin_jax import Comparison, Measurement, Records, diagnose
from gramlin_jax.metrics.layer_sums import LayerSums
from gramlin_jax.support import files

LAYERS = ("params/Dense_0/kernel", "params/Dense_1/kernel")


def made(scale=1.0, layers=LAYERS, **values):
    """A measurement by hand: the numbers that tests look for are theirs."""
    metrics = {
        layer: {"target_linearity": 0.1 * scale + i / 4, "noise_floor": 0.05 * (i + 1), **values}
        for i, layer in enumerate(layers)
    }
    heads = (("target_linearity", "TL"),)
    return Measurement(metrics, {}, 2.0 * scale, math.nan, 64.0, (("f", "a < b"),), "all", heads)


def test_scalars_are_flat():
    scalars = made().scalars()
    assert scalars["params/Dense_1/kernel/target_linearity"] == 0.35
    assert scalars["loss"] == 2 and scalars["count"] == 64 and math.isnan(scalars["accuracy"])
    assert len(scalars) == 2 * 2 + 3


@pytest.mark.parametrize("library", ("pandas", "polars"))
def test_frames_of_both_forms_and_their_files(library, tmp_path):
    module = pytest.importorskip(library)
    wide = made().to_frame(library=library)
    assert isinstance(wide, module.DataFrame) and wide.shape == (2, 3)
    assert list(wide["layer"]) == list(LAYERS) and list(wide["noise_floor"]) == [0.05, 0.1]
    long = made().to_frame("long", library=library)
    assert list(long.columns) == ["layer", "metric", "value"] and long.shape == (4, 3)
    assert list(long["value"]) == [0.1, 0.05, 0.35, 0.1]
    path = tmp_path / "m"
    if library == "pandas":
        wide.to_csv(path, index=False)
        again = [module.read_csv(path)]
        wide.to_parquet(path)
        again.append(module.read_parquet(path))
    else:
        wide.write_csv(path)
        again = [module.read_csv(path)]
        wide.write_parquet(path)
        again.append(module.read_parquet(path))
    assert all(frame.equals(wide) for frame in again)


def test_frames_say_what_they_want():
    with pytest.raises(ValueError, match="form is 'tall': wanted 'wide' or 'long'"):
        made().to_frame("tall")
    with pytest.raises(ValueError, match="library is 'dask': wanted 'pandas' or 'polars'"):
        made().to_frame(library="dask")


def test_a_measurement_without_sums_is_saved(recorded, tmp_path):
    """As those of records and of ``Watch``; of a layer alone, they come back to that layer."""
    recorded[10].save(tmp_path / "m.npz")
    again = Measurement.load(tmp_path / "m.npz")
    assert again.metrics == recorded[10].metrics and not again.sums
    some = dataclasses.replace(
        made(), sums={LAYERS[1]: LayerSums(None, np.eye(2), None, None, 0.1)}
    )
    some.save(tmp_path / "some.npz")
    sums = Measurement.load(tmp_path / "some.npz").sums
    assert list(sums) == [LAYERS[1]] and (sums[LAYERS[1]].kernel == np.eye(2)).all()


def test_a_metric_takes_no_column_of_another(recorded):
    with pytest.raises(ValueError, match="a metric is called 'layer': wanted another name"):
        made(layer=1.0).to_frame()
    recorded.append(30, made(step=1.0))
    with pytest.raises(ValueError, match="a metric is called 'step': wanted another name"):
        recorded.frame()
    assert "step" in made(step=1.0).to_frame()


@pytest.mark.parametrize("library", ("pandas", "polars", "matplotlib.figure"))
def test_a_library_that_is_not_installed_is_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"{library} is missing.*pip install"):
        made().plot() if library.startswith("mat") else made().to_frame(library=library)


def test_records_say_what_they_want(tmp_path):
    records = Records(tmp_path / "new.jsonl")
    with pytest.raises(TypeError, match="measurement is a int: wanted append.step, measurement."):
        records.append(made(), 3)
    with pytest.raises(TypeError, match="step is 0.5: wanted an integer"):
        records.append(0.5, made())
    with pytest.raises(ValueError, match="'nc1': wanted a measurement first, by append"):
        records.plot("nc1")
    with pytest.raises(IsADirectoryError, match="is a folder: wanted a file"):
        Records(tmp_path)
    assert not records.path.exists()
    with pytest.raises(TypeError, match="other is a dict: wanted a Measurement"):
        made().compare({})
    with pytest.raises(ValueError, match="other has the metrics nfa: wanted some of"):
        nfa = {layer: {"nfa": 0.5} for layer in made().layers}
        made().compare(dataclasses.replace(made(), metrics=nfa))
    for watched in (None, [made()], "layers.jsonl", {0: None}, {"last": made()}):
        with pytest.raises(TypeError, match="watched (is|holds) a .*: wanted"):
            diagnose(watched)


def test_html_has_every_cell_of_the_text_and_escapes_it():
    html, text = made()._repr_html_(), str(made())
    assert html.count("<tr>") == 3 and html.count("<td") == 2 * 4
    for word in ("TL", "0.35", LAYERS[1], "loss 2, 64 samples"):
        assert word in html and word in text
    assert "f: a &lt; b" in html and "f: a < b" in text


def test_bars_are_the_layers_with_their_floors():
    figure = made().plot()
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.35]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.05, 0.1]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(LAYERS)
    assert not made().plot("noise_floor").axes[0].lines
    with pytest.raises(ValueError, match="metric is 'nc9': wanted one of target_linearity"):
        made().plot("nc9")


def test_a_comparison_matches_layers_by_name():
    other = made(2.0, (LAYERS[1], "new"), nc1=3.0)
    found = made().compare(other)
    assert isinstance(found, Comparison) and list(found.before) == [LAYERS[1]]
    assert found.after[LAYERS[1]] == {"target_linearity": 0.2, "noise_floor": 0.05}
    np.testing.assert_allclose(found.differences[LAYERS[1]]["target_linearity"], 0.2 - 0.35)
    assert found.only_before == (LAYERS[0],) and found.only_after == ("new",)
    lines = str(found).splitlines()
    assert lines[1].split() == [LAYERS[1], "target_linearity", "0.35", "0.2", "-0.15"]
    assert "only in the second: new" in lines[-1] and "only in the second" in found._repr_html_()
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "metric", "before", "after", "difference"]
    assert len(frame) == 2
    with pytest.raises(ValueError, match="other has the layers z: wanted some of"):
        made().compare(made(layers=("z",)))


@pytest.fixture
def recorded(tmp_path):
    records = Records(tmp_path / "folder" / "layers.jsonl")
    for step in (0, 10, 20):
        records.append(step, made(step / 10))
    return records


def test_records_come_back_as_they_were(recorded):
    again = Records.load(recorded.path)
    assert again.steps == (0, 10, 20) == tuple(again) and len(again) == 3 and not again.notes
    assert again[10].metrics == made().metrics and again[10].loss == 2
    assert str(again[10]) == str(made()) and again[10].coverage == "all"
    assert "3 measurements, steps 0 to 20" in str(again)
    assert [step for step, m in again.items() if m.loss > 1] == [10, 20]
    for line in recorded.path.read_text().splitlines():
        assert json.loads(line)["layers"]  # others can read it, too
    with pytest.raises(KeyError, match="step is 5: wanted one of 0, 10, 20"):
        again[5]
    with pytest.raises(FileNotFoundError, match="wanted a file of Records"):
        Records.load(recorded.path.with_name("none"))


def test_numbers_that_are_not_finite_come_back(recorded):
    recorded.append(30, made(math.inf, nc1=-math.inf))
    last = Records.load(recorded.path)[30]
    assert last.loss == math.inf and math.isnan(last.accuracy)
    assert last[LAYERS[0]]["nc1"] == -math.inf


def test_a_kill_at_any_byte_costs_the_last_record_alone(recorded):
    whole = recorded.path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in range(start, len(whole) - 1, 7):
        recorded.path.write_bytes(whole[:end])
        if end == start:
            assert Records(recorded.path).steps == (0, 10)
            continue
        with pytest.warns(RuntimeWarning, match="line 3 .* dropped: it is torn, and .* cuts"):
            records = Records(recorded.path)
        assert records.steps == (0, 10) and "was dropped" in str(records)
        records.append(20, made(2.0))
        assert recorded.path.read_bytes() == whole


def test_a_kill_in_the_first_record_or_before_a_line_feed_costs_nothing(recorded):
    whole = recorded.path.read_bytes()
    for torn in (whole[:1], whole[:40]):
        recorded.path.write_bytes(torn)
        with pytest.warns(RuntimeWarning, match="line 1 of .* was dropped: it is torn"):
            records = Records(recorded.path)
        records.append(0, made(0.0))
        assert recorded.path.read_bytes() == whole.splitlines(keepends=True)[0]
    recorded.path.write_bytes(whole[:-1])
    records = Records(recorded.path)
    assert records.steps == (0, 10, 20) and not records.notes
    records.append(30, made())
    assert recorded.path.read_bytes().startswith(whole)
    assert Records(recorded.path).steps == (0, 10, 20, 30)


FOREIGN = (b'{\n  "lr": 0.1\n}', b"\x93NUMPY\x01\n\xff\x00", b"step,loss\n0,2.5\n", b"[1]\n3")


@pytest.mark.parametrize("content", (*FOREIGN, b'{"lr": 0.1}', b"[" * 10**5 + b"\n"))
def test_a_file_of_something_else_is_refused_and_left_as_it_was(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config.json holds no record: wanted a new file, or"):
        Records(path)
    late = Records(tmp_path / "late")
    late.path.write_bytes(FOREIGN[0])
    with pytest.warns(RuntimeWarning, match="step 0 was not written: .*late holds no line"):
        late.append(0, made())
    assert path.read_bytes() == content and late.path.read_bytes() == FOREIGN[0]


def test_a_file_that_is_blank_or_whose_only_record_is_damaged_is_continued(recorded):
    line = recorded.path.read_bytes().splitlines(keepends=True)[0]
    recorded.path.write_bytes(b"\n")
    with pytest.warns(RuntimeWarning, match="line 1 of .* was dropped"):
        assert len(Records(recorded.path)) == 0
    recorded.path.write_bytes(line.replace(b"64.0", b"65.0"))
    with pytest.warns(RuntimeWarning, match="line 1 of .* damaged .*checksum"):
        assert len(Records(recorded.path)) == 0


def test_a_changed_byte_costs_its_record_alone(recorded):
    content = bytearray(recorded.path.read_bytes())
    content[content.find(b"64.0")] = ord("7")
    recorded.path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="line 1 .* was dropped: it is damaged .*checksum"):
        assert Records(recorded.path).steps == (10, 20)


def test_on_a_full_disk_measurements_wait_in_memory(recorded):
    before = recorded.path.read_bytes()
    with full_disk(len(before) + 40):
        with pytest.warns(RuntimeWarning, match="step 30 was not written: .*layers.jsonl") as shown:
            recorded.append(30, made())
            recorded.append(40, made(2.0))
        assert recorded.path.read_bytes() == before
    assert len(shown) == 1 and recorded.steps == (0, 10, 20, 30, 40)
    recorded.append(50, made())
    again = Records.load(recorded.path)
    assert again.steps == recorded.steps == (0, 10, 20, 30, 40, 50) and again[40].loss == 4
    with full_disk(0), pytest.warns(RuntimeWarning, match="step 60 was not written"):
        recorded.append(60, made())


def test_a_full_disk_stops_nothing_where_warnings_are_errors(recorded, capsys):
    with full_disk(0), warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded.append(30, made())
        recorded.append(40, made())
    assert recorded.steps == (0, 10, 20, 30, 40)
    assert capsys.readouterr().err.count("step 30 was not written") == 1


def test_what_two_append_at_once_is_all_there(tmp_path, monkeypatch):
    """The second begins while the first looks for a torn line."""
    pytest.importorskip("fcntl")
    path, look, others = tmp_path / "log.jsonl", files._end_of_last_line, []

    def slowly(file, end):
        if not others:
            others.append(threading.Thread(target=files.append_lines, args=(path, b"2\n", b"")))
            others[0].start()
            others[0].join(0.5)
        return look(file, end)

    monkeypatch.setattr(files, "_end_of_last_line", slowly)
    files.append_lines(path, b"1\n", b"")
    others[0].join()
    assert sorted(path.read_text().splitlines()) == ["1", "2"]


def test_steps_measured_again_take_the_place_of_those_before(recorded):
    recorded.append(10, made(5.0))
    again = Records.load(recorded.path)
    assert recorded.steps == again.steps == (0, 10) and again[10].loss == 10


def test_a_step_copies_none_of_those_before(tmp_path):
    records = Records(tmp_path / "many.jsonl")
    kept = records._measurements
    for step in range(3):
        records.append(step, made())
    assert records._measurements is kept and tuple(kept) == (0, 1, 2)


def test_frames_and_series_over_steps(recorded):
    wide, long = recorded.frame(), recorded.frame("long")
    assert list(wide.columns) == ["step", "layer", "target_linearity", "noise_floor"]
    assert len(wide) == 6 and len(long) == 12 and list(wide["step"]) == [0, 0, 10, 10, 20, 20]
    recorded.append(30, made(3.0, ("new",)))
    series = recorded.series("target_linearity")
    np.testing.assert_allclose(series[LAYERS[1]], [0.25, 0.35, 0.45, np.nan])
    np.testing.assert_allclose(series["new"], [np.nan] * 3 + [0.3])


def test_curves_are_the_layers_and_the_floor(recorded):
    lines = recorded.plot("target_linearity").axes[0].lines
    assert [line.get_label() for line in lines] == [*LAYERS, "noise floor"]
    np.testing.assert_allclose(lines[1].get_ydata(), [0.25, 0.35, 0.45])
    np.testing.assert_allclose(lines[2].get_ydata(), [0.075] * 3)
    assert lines[2].get_linestyle() == ":" and list(lines[0].get_xdata()) == [0, 10, 20]
    recorded.append(30, made(layers=("_private", "b")))
    legend = recorded.plot("target_linearity").axes[0].get_legend()
    assert " _private" in [text.get_text() for text in legend.get_texts()]
    with pytest.raises(ValueError, match="metric is 'nc9': wanted one of target_linearity"):
        recorded.plot("nc9")
