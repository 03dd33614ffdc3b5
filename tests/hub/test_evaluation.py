"""Files of evaluation results and of benchmarks, as strangers write them."""

import re
from contextlib import suppress

import pytest
import yaml
from huggingface_hub import EvalResultEntry
from huggingface_hub._eval_results import eval_result_entries_to_yaml, parse_eval_result_entries
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos.evaluation import Spread, Task, parse_benchmark, parse_results, spread

FULL = EvalResultEntry(
    dataset_id="ada/exam",
    task_id="all",
    value=20.9,
    dataset_revision="5503434ddd753f426f4b38109466949a1217c2bb",
    verify_token="eyJhbGciOiJIUzI1NiJ9",
    date="2026-01-15T10:30:00Z",
    source_url="https://example.org/traces",
    source_name="Traces",
    source_user="ada",
    source_org="lab",
    notes="no-tools",
)
ENTRY = "- dataset: {id: ada/exam, task_id: all}\n  value: 1.5\n"


def test_what_the_client_writes_is_read_back_as_it_was():
    text = yaml.dump(eval_result_entries_to_yaml([FULL, EvalResultEntry("ada/exam", "all", 1)]))
    assert parse_eval_result_entries(parse_results(text)) == [FULL, EvalResultEntry("ada/exam", "all", 1)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (ENTRY, [1.5]),
        (ENTRY * 3, [1.5] * 3),
        ("dataset: {id: ada/exam, task_id: all}\nvalue: 3", [3]),
        (ENTRY + "  date: 2026-01-31\n", [1.5]),
        (ENTRY + "  date: '2026-01-31T12:00:00+02:00'\n", [1.5]),
        (ENTRY + "  source: {url: 'http://127.0.0.1/x'}\n", [1.5]),
        (ENTRY + "  source:\n  notes:\n", [1.5]),
        (ENTRY + "  evaluation_framework: lm-eval\n", [1.5]),
        ("", []),
        ("[]", []),
        ("# nothing yet", []),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: -1.0e+3\n", [-1000.0]),
    ],
)
def test_results_are_read(text: str, values: list[float]):
    assert [entry["value"] for entry in parse_results(text)] == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- 5", "entry 1: must be a mapping"),
        ("just words", "entry 1: must be a mapping"),
        ("- value: 1", "entry 1: `dataset` must be a mapping"),
        ("- dataset: ada/exam\n  value: 1", "`dataset` must be a mapping"),
        ("- dataset: {task_id: all}\n  value: 1", "`dataset` needs `id`"),
        ("- dataset: {id: '', task_id: all}\n  value: 1", "`dataset` needs `id`"),
        ("- dataset: {id: ada/exam}\n  value: 1", "`dataset` needs `task_id`"),
        ("- dataset: {id: ada/exam, task_id: 7}\n  value: 1", "`dataset` needs `task_id`"),
        ("- dataset: {id: ada/exam, task_id: %s}\n  value: 1" % ("x" * 201), "`dataset` needs `task_id`"),
        ("- dataset: {id: ada/exam, task_id: all}", "`value` must be a finite number"),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: good", "`value` must be a finite number"),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: true", "`value` must be a finite number"),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: .nan", "`value` must be a finite number"),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: .inf", "`value` must be a finite number"),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: [1]", "`value` must be a finite number"),
        ("- dataset: {id: ada/exam, task_id: all}\n  value: 1" + "0" * 400, "a number of more than 1024 bits"),
        (ENTRY + "- 5", "entry 2: must be a mapping"),
        (ENTRY + "  source: {name: Traces}\n", "`source` must be a mapping with `url`"),
        (ENTRY + "  source: https://example.org\n", "`source` must be a mapping with `url`"),
        (ENTRY + "  source: {url: 'javascript:alert(1)'}\n", "`source` must be a mapping with `url`"),
        (ENTRY + "  source: {url: 'http://[::1'}\n", "`source` must be a mapping with `url`"),
        (ENTRY + "  source: {url: https://example.org, user: [a]}\n", "`source.user` must be a text"),
        (ENTRY + "  date: yesterday\n", "`date` must be an ISO 8601"),
        (ENTRY + "  notes: %s\n" % ("x" * 2_001), "`notes` must be a text of at most 2,000"),
        (ENTRY + "  verifyToken: 5\n", "`verifyToken` must be a text"),
        ("- &a {dataset: {id: x, task_id: y}, value: 1}\n- *a", "aliases are not allowed"),
        ("a: &a [x]\nb: [*a, *a, *a]", "aliases are not allowed"),
        ("- {value: ]", "line 1, column"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("[" * 5_000, "not YAML"),
        ("- x\n" * 1_001, "1,001 entries"),
        ("x" * 300_000, "at most 262,144"),
    ],
)
def test_what_is_wrong_with_results_is_said_in_one_line(text: str, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        parse_results(text)
    assert "\n" not in str(error.value)


@given(st.text(max_size=200))
def test_any_text_is_results_or_a_reason(text: str):
    with suppress(ValueError):
        assert isinstance(parse_results(text), list)


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("tasks: [{id: all}]", [Task("all")]),
        ("name: Exam\ntasks:\n- id: a\n  config: default\n  split: test\n- id: b", [Task("a"), Task("b")]),
        ("tasks: [{id: ppl, higher_is_better: false}]", [Task("ppl", False)]),
        ("higher_is_better: false\ntasks: [{id: a}, {id: b, higher_is_better: true}]", [Task("a", False), Task("b")]),
    ],
)
def test_benchmarks_declare_tasks_and_their_direction(text: str, tasks: list[Task]):
    assert parse_benchmark(text) == tasks


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a mapping"),
        ("- id: a", "must be a mapping"),
        ("name: Exam", "`tasks` must be a list"),
        ("tasks: []", "`tasks` must be a list"),
        ("tasks: all", "`tasks` must be a list"),
        ("tasks: [all]", "each task needs an `id`"),
        ("tasks: [{config: default}]", "each task needs an `id`"),
        ("tasks: [{id: a, higher_is_better: up}]", "task 'a': `higher_is_better` must be true or false"),
        ("tasks: [&a {id: a}, *a]", "aliases are not allowed"),
        ("tasks: [", "not YAML"),
        ("tasks: [%s]" % ("{id: a}," * 101), "`tasks` must be a list of 1 to 100"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_said(text: str, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_benchmark(text)


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        ("lower is better; 95 % interval 1.921 to 1.948 (bootstrap over documents, n = 40)", Spread(1.921, 1.948, 40)),
        ("95% confidence interval: [1.9, 2.0], n = 1,234", Spread(1.9, 2.0, 1_234)),
        ("95 % interval 1.5 – 2.5", Spread(1.5, 2.5)),
        ("95 % interval 1.934 to 1.934", Spread(1.934, 1.934)),  # as exact as it is written
        ("95 % interval -1e-3 to 2e0", Spread(-0.001, 2.0)),
        ("the baseline's 95 % interval is 3.1 to 3.2", Spread()),
        ("95 % interval 3.1 to 3.2", Spread()),
        ("95 % interval 2.1 to 1.1", Spread()),
        ("n = many", Spread()),
        ("n = ,", Spread()),
        (None, Spread()),
    ],
)
def test_notes_state_an_interval(notes: str | None, found: Spread):
    assert spread({"value": 1.9344, "notes": notes}) == found


@given(st.text(alphabet="95 %interval[],.–-toen=0123456789", max_size=60))
def test_no_notes_stop_the_reader(notes: str):
    found = spread({"value": 1.0, "notes": f"95 % interval {notes}"})
    assert (found.low is None) == (found.high is None)


def test_an_interval_reaches_as_far_as_its_value():
    assert Spread(1, 2).reach(1.5) == (1, 2)
    assert Spread(1, 2).reach(2.04) == (1, 2.04)
    assert Spread().reach(7) == (7, 7)
