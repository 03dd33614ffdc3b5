"""Statistics of tensors and differences of weights, against torch and numpy, and of files that are damaged."""

import json
import struct
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lmcommons.hub.repos import tensors
from lmcommons.hub.repos.tensors import difference, layout, statistics

TYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def saved(**found: torch.Tensor) -> BytesIO:
    return BytesIO(save({name: tensor.clone() for name, tensor in found.items()}))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_statistics_are_those_of_torch(dtype: torch.dtype) -> None:
    values = (torch.randn(300, 7, generator=torch.manual_seed(0)) * 3).to(dtype)
    file = saved(other=torch.ones(5), w=values)
    found, right = statistics(file, layout(file)["w"]), values.double()
    assert (found.read, found.zeros, found.nans, found.infinities) == (2100, int((right == 0).sum()), 0, 0)
    assert (found.minimum, found.maximum) == (right.min(), right.max())
    assert found.mean == pytest.approx(right.mean().item())
    assert found.std == pytest.approx(right.std(correction=0).item())
    assert found.histogram is not None
    assert sum(found.histogram.counts) + found.histogram.below + found.histogram.above == 2100


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16], ids=str)
def test_every_value_of_a_narrow_type_is_read_as_torch_reads_it(dtype: torch.dtype) -> None:
    width = torch.empty(0, dtype=dtype).element_size()
    raw = torch.arange(256**width, dtype=torch.int32).to(torch.uint8 if width == 1 else torch.uint16)
    values = raw.view(dtype).double()
    file = saved(w=raw.view(dtype))
    found = statistics(file, layout(file)["w"])
    finite = values[values.isfinite()]
    assert (found.nans, found.infinities) == (int(values.isnan().sum()), int(values.isinf().sum()))
    assert (found.minimum, found.maximum) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(finite.mean().item())
    assert difference(file, saved(w=raw.view(dtype))).same == 1


def test_what_is_far_from_the_rest_is_beyond_the_histogram() -> None:
    file = saved(w=torch.cat([torch.linspace(-1, 1, 10_000), torch.tensor([1e6, -2e6, torch.nan, torch.inf])]))
    found = statistics(file, layout(file)["w"])
    assert found.histogram is not None
    assert (found.histogram.below, found.histogram.above, found.nans, found.infinities) == (1, 2, 1, 1)
    assert sum(found.histogram.counts) == 10_000


@pytest.mark.parametrize(
    "values", [torch.zeros(0), torch.full((3,), torch.nan), torch.tensor([1e300, -1e300], dtype=torch.float64)]
)
def test_what_has_no_statistics_says_none(values: torch.Tensor) -> None:
    file = saved(w=values)
    assert statistics(file, layout(file)["w"]).histogram is None


def test_equal_values_are_one_bar() -> None:
    file = saved(w=torch.full((10,), 2.0))
    found = statistics(file, layout(file)["w"])
    assert found.histogram is not None
    assert (max(found.histogram.counts), found.std) == (10, 0)


def test_a_large_tensor_is_sampled_over_its_whole_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "BLOCK", 100)
    monkeypatch.setattr(tensors, "SAMPLE_LIMIT", 1_000)
    file = saved(w=torch.arange(100_050, dtype=torch.float32))
    found = statistics(file, layout(file)["w"])
    assert found.read == 1_000
    assert found.minimum == 0
    assert found.maximum is not None
    assert found.maximum > 90_000


def test_types_that_cannot_be_read_are_refused_in_one_line() -> None:
    file = saved(w=torch.zeros(3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="values of type 'C64' cannot be read here"):
        statistics(file, layout(file)["w"])


def test_a_difference_names_what_was_added_removed_reshaped_and_changed() -> None:
    base = torch.randn(50, 40, generator=torch.manual_seed(0))
    change = torch.zeros(50, 40)
    change[3, 4] = 0.5
    before = saved(same=base, gone=base, wide=base, moved=base, narrow=base)
    after = saved(same=base, new=base, wide=base.T.contiguous(), moved=base + change, narrow=base.bfloat16())
    found = difference(before, after)
    assert [tensor.name for tensor in found.added] == ["new"]
    assert [tensor.name for tensor in found.removed] == ["gone"]
    assert [(old.shape, new.shape) for old, new in found.reshaped] == [((50, 40), (40, 50))]
    assert (found.same, found.unread, found.fraction) == (1, 0, 1)
    changed = {one.after.name: one for one in found.changed}
    assert changed.keys() == {"moved", "narrow"}
    moved, delta = changed["moved"], (base + change).double() - base.double()
    assert moved.max_abs == pytest.approx(0.5, rel=1e-5)
    assert moved.mean_abs == pytest.approx(delta.abs().mean().item())
    assert moved.relative_l2 == pytest.approx((delta.norm() / base.double().norm()).item())
    assert changed["narrow"].relative_l2 == pytest.approx(
        ((base.bfloat16().double() - base.double()).norm() / base.double().norm()).item()
    )


def test_values_that_are_not_numbers_count_only_where_they_differ() -> None:
    nan, inf = torch.nan, torch.inf
    before = saved(a=torch.tensor([nan, inf, 1.0, nan]), b=torch.tensor([nan, inf]))
    found = difference(before, saved(a=torch.tensor([nan, inf, 2.0, 5.0]), b=torch.tensor([nan, inf])))
    assert found.same == 1
    assert (found.changed[0].not_finite, found.changed[0].max_abs, found.changed[0].mean_abs) == (1, 1.0, 1 / 3)
    assert found.changed[0].relative_l2 == 1.0


def test_a_long_comparison_speaks_of_a_part_of_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "BLOCK", 10)
    monkeypatch.setattr(tensors, "DIFFERENCE_LIMIT", 100)
    found = difference(saved(a=torch.zeros(1_000), b=torch.zeros(9)), saved(a=torch.ones(1_000), b=torch.zeros(9)))
    assert found.fraction == pytest.approx(100 / 1_009)
    assert (found.changed[0].read, found.changed[0].max_abs, found.changed[0].relative_l2) == (100, 1.0, None)
    assert found.same == 1


def cut(content: bytes) -> list[bytes]:
    return [content[:-1], content[: len(content) // 2], content[:4], b""]


@pytest.mark.parametrize("content", cut(save({"w": torch.zeros(100)})))
def test_a_file_that_was_cut_off_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        layout(BytesIO(content))


@pytest.mark.parametrize("offsets", [[0, 8], [4, 0], [0, 1 << 60], [1 << 62, (1 << 62) + 4]])
def test_a_tensor_that_is_not_in_the_file_is_refused(offsets: list[int]) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
    with pytest.raises(ValueError, match="'w' is not where the header says"):
        layout(BytesIO(struct.pack("<Q", len(header)) + header + bytes(4)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=50),
    st.lists(st.floats(width=32), min_size=1, max_size=50),
)
def test_any_two_files_can_be_compared(one: list[float], other: list[float]) -> None:
    before, after = saved(w=torch.tensor(one)), saved(w=torch.tensor(other))
    found = difference(before, after)
    assert len(found.reshaped) == (len(one) != len(other))
    if len(one) == len(other):
        assert (found.same == 1) == np.array_equal(one, other, equal_nan=True)
    statistics(after, layout(after)["w"])
