"""What is told of configurations and recipes side by side."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos.comparing import KEYS_LIMIT, VALUE_LIMIT, Differences, differences, flatten

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
NESTED = st.recursive(PLAIN, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)


def test_nested_keys_are_written_with_dots_in_their_order():
    found = flatten({"b": {"x": 1, "list": [1, "a"]}, "a": [{"type": "hub"}, {"type": "text"}], "none": None, "no": {}})
    assert list(found.items()) == [
        ("b.x", "1"),
        ("b.list", '[1, "a"]'),
        ("a.0.type", '"hub"'),
        ("a.1.type", '"text"'),
        ("none", "null"),
        ("no", "{}"),
    ]


def test_what_is_no_mapping_has_no_keys():
    assert flatten(["a"]) == flatten(None) == flatten("text") == {}


def test_long_and_deep_ones_are_cut():
    deep: Any = "x" * 1_000
    for _ in range(5_000):
        deep = {"a": deep}
    [value] = flatten(deep).values()
    assert len(value) == VALUE_LIMIT
    assert len(flatten({str(number): number for number in range(10_000)})) == KEYS_LIMIT


def test_only_what_differs_is_told():
    one, other = {"same": "1", "changed": "1", "gone": "1"}, {"same": "1", "changed": "2", "new": "1"}
    assert differences([one, other]) == Differences(
        [("changed", ["1", "2"]), ("gone", ["1", None]), ("new", [None, "1"])], [("same", "1")]
    )


def test_what_stands_in_one_section_is_told_together():
    one, other = {"data.type": "1", "model.size": "1"}, {"data.type": "2", "model.size": "2", "data.paths": "2"}
    assert [key for key, _ in differences([one, other]).different] == ["data.type", "data.paths", "model.size"]


def test_a_model_without_a_recipe_differs_in_all_of_it():
    assert differences([{"a": "1"}, {}]).different == [("a", ["1", None])]


@given(st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3), st.integers(2, 4))
def test_copies_do_not_differ(value: dict[str, Any], copies: int):
    flat = flatten(json.loads(json.dumps(value)))
    found = differences([flat] * copies)
    assert (found.different, dict(found.equal)) == ([], flat)
