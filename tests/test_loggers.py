"""Each logger writes for real, and what it wrote is read back by what people watch it in."""

import json
import math
import warnings

import jax
import pytest
from full import full_disk

from gramlin_jax.loggers import JSONLines, Loggers, Monitoring, Print, TensorBoard, WandB

VALUES = {"params/Dense_0/kernel/target_linearity": 0.25, "loss": 2.0, "accuracy": math.nan}
STEPS = (0, 10, 20)


def log_to(logger):
    for step in STEPS:
        logger({**VALUES, "loss": 2.0 - step / 100}, step)


def test_lines_of_json(tmp_path):
    log_to(JSONLines(tmp_path / "new" / "log.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "new/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 10, 20]
    assert lines[2] == {"step": 20, **VALUES, "loss": 1.8, "accuracy": None}


LINES = b'{"step": 0, "loss": 2.0}\n{"step": 1, "loss": 1.5}'


@pytest.mark.parametrize("before", (LINES, LINES + b"\n", b'{"lr": 0.1}', b""))
def test_lines_that_are_whole_are_kept(before, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(before)
    JSONLines(path)({"loss": 1.0}, 2)
    assert path.read_bytes().splitlines() == [*before.splitlines(), b'{"step": 2, "loss": 1.0}']


@pytest.mark.parametrize("before", (b"", LINES + b"\n"))
@pytest.mark.parametrize("torn", (b"{", b'{"step": 2, "lo'))
def test_a_torn_line_is_cut_off_with_a_warning(before, torn, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(before + torn)
    log = JSONLines(path)
    with pytest.warns(RuntimeWarning, match="the last line of .*log.jsonl was torn and is cut off"):
        log({"loss": 1.0}, 2)
    assert path.read_bytes() == before + b'{"step": 2, "loss": 1.0}\n'


FOREIGN = b'{\n  "step": 0\n}', b"\x93NUMPY\x01\n\xff\x00", b"step,loss\n0,2.5\n", b"[1]\n3"


@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_of_something_else_is_refused_and_left_as_it_was(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="config.json holds no line that is an object of JSON"):
        JSONLines(path)
    assert path.read_bytes() == content


def test_a_file_of_something_else_that_comes_later_stops_nothing(tmp_path):
    path, seen = tmp_path / "config.json", []
    log = Loggers(JSONLines(path), lambda values, step: seen.append(step))
    path.write_bytes(FOREIGN[0])
    with pytest.warns(RuntimeWarning, match="failed at step 0 with ValueError: .*no line") as shown:
        log_to(log)
    assert path.read_bytes() == FOREIGN[0] and seen == [*STEPS] and len(shown) == 1


def test_a_step_between_two_is_refused(tmp_path):
    for logger in (JSONLines(tmp_path / "log.jsonl"), Monitoring()):
        logger(VALUES, jax.numpy.int32(2))
        for step in (2.5, None, math.nan, math.inf, "2"):
            with pytest.raises(ValueError, match=f"step is {step!r}: wanted a whole number"):
                logger(VALUES, step)


def test_a_value_called_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="values has the name 'step': wanted another"):
        JSONLines(tmp_path / "log.jsonl")({"loss": 1.0, "step": 7.0}, 3)


def test_printed_lines():
    lines = []
    log_to(Print(to=lines.append))
    assert len(lines) == 9 and lines[1] == "step 0  loss 2" and lines[8] == "step 20  accuracy nan"


def test_tensorboard_reads_its_curves(tmp_path):
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_to(TensorBoard(tmp_path))
    read = reader.EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(VALUES)
    losses = read.Scalars("loss")
    assert [event.step for event in losses] == list(STEPS)
    assert [event.value for event in losses] == pytest.approx([2.0, 1.9, 1.8])
    assert all(math.isnan(event.value) for event in read.Scalars("accuracy"))


def test_two_tensorboards_in_a_folder_write_files_of_their_own(tmp_path):
    """In the same second too, in which a file of the one was overwritten by the other."""
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loggers = [TensorBoard(tmp_path) for _ in range(3)]
    for i, logger in enumerate(loggers):
        logger({f"of {i}": 1.0}, 0)
    found = [reader.EventAccumulator(str(path)) for path in tmp_path.iterdir()]
    names = [name for read in found for name in read.Reload().Tags()["scalars"]]
    assert sorted(names) == ["of 0", "of 1", "of 2"]


def test_weights_and_biases_offline(tmp_path):
    wandb = pytest.importorskip("wandb")
    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
    run = wandb.init(mode="offline", dir=tmp_path, project="layers", settings=settings)
    log = WandB(run)
    log_to(log)
    log({"another": 7.0}, STEPS[-1])  # of the same step, as by ``Log`` and ``Watch``
    run.finish()
    wandb.teardown()  # which waits until the file is written
    (file,) = tmp_path.rglob("*.wandb")
    content = file.read_bytes()
    assert all(part in content for part in (b"target_linearity", b"1.9", b"1.8", b"another"))


def test_jax_monitoring_hears_each_scalar():
    heard = []

    def listen(event, value, **also):
        heard.append((event, value, also))

    jax.monitoring.register_scalar_listener(listen)
    try:
        log_to(Monitoring())
    finally:
        jax.monitoring.unregister_scalar_listener(listen)
    assert len(heard) == 9 and ("/gramlin_jax/loss", 1.9, {"step": 10}) in heard


def test_a_logger_that_raises_is_shown_once_and_stops_nothing():
    lines = []

    def broken(values, step):
        raise OSError("no space left on device")

    log = Loggers(broken, Print(to=lines.append))
    with pytest.warns(
        RuntimeWarning, match="failed at step 0 with OSError: no space left"
    ) as shown:
        log_to(log)
    assert len(shown) == 1 and len(lines) == 9


def test_a_logger_that_raises_stops_nothing_where_warnings_are_errors(capsys):
    seen = []
    log = Loggers(lambda values, step: values["none"], lambda values, step: seen.append(step))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_to(log)
    assert seen == [*STEPS] and capsys.readouterr().err.count("failed at step 0 with KeyError") == 1


def test_a_failed_logger_is_shown_at_the_line_that_calls_it():
    with pytest.warns(RuntimeWarning, match="failed at step 0") as shown:
        Loggers(lambda values, step: values["none"])(VALUES, 0)
    assert shown[0].filename == __file__


def test_each_logger_has_values_of_its_own():
    seen = []
    Loggers(lambda values, step: values.clear(), lambda values, step: seen.append(values))(
        VALUES, 0
    )
    assert seen == [VALUES]
    with pytest.raises(TypeError, match=r"loggers\[0\] is a list: wanted a function, as Print"):
        Loggers([Print()])


def test_a_full_disk_is_shown_once_and_tears_nothing(tmp_path):
    """What is logged after there is room again follows the last line that was whole."""
    pytest.importorskip("tensorboardX")
    path = tmp_path / "log.jsonl"
    log = Loggers(JSONLines(path), TensorBoard(tmp_path / "events"))
    log(VALUES, 0)
    with full_disk(path.stat().st_size + 10), pytest.warns(RuntimeWarning) as shown:
        log(VALUES, 10)
        log(VALUES, 20)
    assert sorted(str(w.message).split("(")[1].split(")")[0] for w in shown) == [
        "JSONLines",
        "TensorBoard",
    ]
    log(VALUES, 30)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 30]
