"""Curves of files that real writers made, and of files that are damaged."""

import json
import struct
import time
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch import tensor
from torch.utils.tensorboard import SummaryWriter

from lmcommons.hub.repos import curves
from lmcommons.training.metrics import MetricsLog

STEPS = range(1, 51)
NUMBERS = [(step, {"tokens": 100.0 * step, "loss": 1 / step, "gradient_norm": float(step % 7)}) for step in STEPS]


def jsonl(rows: Iterable[object]) -> BytesIO:
    return BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def events(folder: Path) -> BytesIO:
    (path,) = folder.glob("*tfevents*")
    return BytesIO(path.read_bytes())


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + curves._checksum(length) + content + curves._checksum(content)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the toolkit's own log of a run."""
    out = tmp_path_factory.mktemp("run")
    with MetricsLog(out, 0) as log:
        for step, numbers in NUMBERS:
            log.write(step, numbers)
    return out


def test_a_run_has_the_same_curves_in_both_of_its_files(run: Path) -> None:
    rows = curves.read("metrics.jsonl", BytesIO((run / "metrics.jsonl").read_bytes()))
    board = curves.read("events.out.tfevents.1.host.2.0", events(run / "tensorboard"))
    assert list(rows) == list(board) == ["loss", "gradient_norm"]
    loss = rows["loss"]
    assert loss.steps == tuple(range(1, 51))
    assert loss.values == pytest.approx([1 / step for step in range(1, 51)])
    assert loss.tokens == pytest.approx([100 * step for step in range(1, 51)])
    assert (loss.count, loss.last_step, loss.last) == (50, 50, 1 / 50)
    assert board["loss"].values == pytest.approx(loss.values)
    assert board["loss"].tokens == loss.tokens


def test_scalars_are_read_in_each_form_and_among_other_events(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as board:
        board.add_text("notes", "words")
        board.add_histogram("weights", tensor(range(100_000)), 1)
        for step in range(3):
            board.add_scalar("simple", step, step)
            board.add_scalar("tensor", step + 0.5, step, new_style=True)
            board.add_scalar("double", tensor(step + 0.25).double(), step, new_style=True, double_precision=True)
    found = curves.read("a.tfevents", events(tmp_path))
    assert {tag: series.values for tag, series in found.items()} == {
        "simple": (0, 1, 2),
        "tensor": (0.5, 1.5, 2.5),
        "double": (0.25, 1.25, 2.25),
    }
    assert found["simple"].tokens is None


def test_a_resumed_run_replaces_what_came_before(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path))
    for step, value in [(1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (-1, 5.0)]:
        summary = Summary(value=[Summary.Value(tag="loss", simple_value=value)])
        writer.add_event(Event(wall_time=0.0, step=step, summary=summary))
    writer.close()
    series = curves.read("tfevents", events(tmp_path))["loss"]
    assert (series.steps, series.values) == ((-1, 1, 2, 3), (5, 1, 20, 3))


def test_the_state_of_a_transformers_trainer_has_curves() -> None:
    state = {"epoch": 1.0, "log_history": [{"step": 10, "loss": 2.0, "epoch": 0.5}, {"step": 20, "eval_loss": 1.5}]}
    found = curves.read("trainer_state.json", BytesIO(json.dumps(state).encode()))
    assert {tag: series.last for tag, series in found.items()} == {"loss": 2.0, "epoch": 0.5, "eval_loss": 1.5}


def test_long_curves_are_thinned_to_means_and_keep_their_last_value() -> None:
    rows = ({"step": step, "loss": float(step % 2), "tokens": step * 10} for step in range(100_000))
    series = curves.read("metrics.jsonl", jsonl(rows))["loss"]
    assert len(series.steps) == len(series.values) == curves.POINTS
    assert set(series.values) == {0.5}
    assert series.tokens is not None
    assert series.tokens[-1] == pytest.approx(series.steps[-1] * 10)
    assert (series.count, series.last_step, series.last) == (100_000, 99_999, 1.0)


def test_what_is_no_number_is_passed_over() -> None:
    rows = [{"step": 1, "a": True, "b": "1", "c": None, "d": float("nan"), "e": 2, "f": 10**400}, {"a": 1}, [], 5]
    assert list(curves.read("metrics.jsonl", jsonl(rows))) == ["e"]


def test_a_run_that_goes_on_is_read_as_far_as_it_is_written(run: Path) -> None:
    for name, path in [("metrics.jsonl", run / "metrics.jsonl"), ("tfevents", *(run / "tensorboard").iterdir())]:
        content = path.read_bytes()
        for cut in (1, 5, 20):
            assert curves.read(name, BytesIO(content[:-cut]))["loss"].count in (49, 50)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.jsonl", b"", "no numbers by step"),
        ("metrics.jsonl", b'{"loss": 1}\n', "no numbers by step"),
        ("metrics.jsonl", b'{"step": 1, "loss": 1}\n{\n{"step": 2}\n', "line 2 is not JSON"),
        ("metrics.jsonl", b"[" * 100_000 + b"\n\n", "line 1 is not JSON"),
        ("trainer_state.json", b"[]", "not a JSON object"),
        ("trainer_state.json", b'{"log_history": 5}', "no numbers by step"),
        ("a.tfevents", b"", "no numbers by step"),
        ("a.tfevents", b"not TensorBoard's", "event 1 is damaged"),
    ],
)
def test_what_has_no_curves_says_why_in_one_line(name: str, content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        curves.read(name, BytesIO(content))


def test_a_damaged_event_is_named(run: Path) -> None:
    content = bytearray(events(run / "tensorboard").getvalue())
    content[-6] ^= 1
    with pytest.raises(ValueError, match=r"event 1\d\d is damaged: its checksum does not match"):
        curves.read("tfevents", BytesIO(content))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_event_with_a_right_checksum_does_harm(contents: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        curves.read("tfevents", BytesIO(b"".join(map(record, contents))))


def test_too_many_events_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "EVENTS_LIMIT", 100)
    with pytest.raises(ValueError, match="more than 100 events"):
        curves.read("tfevents", events(run / "tensorboard"))


def test_as_many_events_as_are_read_take_bounded_time() -> None:
    event = Event(wall_time=1.0, step=5, summary=Summary(value=[Summary.Value(tag="loss", simple_value=1.0)]))
    records = record(event.SerializeToString()) * curves.EVENTS_LIMIT
    started = time.process_time()
    assert curves.read("tfevents", BytesIO(records))["loss"].count == 1
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("name", "are"),
    [
        ("metrics.jsonl", True),
        ("train_metrics.jsonl", True),
        ("events.out.tfevents.1795346430.vm.32516.0", True),
        ("trainer_state.json", True),
        ("train.jsonl", False),
        ("biometrics.jsonl", False),
        ("metrics.json", False),
    ],
)
def test_files_with_curves_are_known_by_their_names(name: str, are: bool) -> None:
    assert curves.is_curves(name) == are
