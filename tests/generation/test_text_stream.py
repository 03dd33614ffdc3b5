"""Bytes to text: whole characters, and nothing of a stop text."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lmcommons.generation.text_stream import TextStream


def run(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(stop)
    shown = [stream.push(piece) for piece in pieces]
    return [*shown, stream.finish()], stream


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(text=st.text(), places=st.lists(st.integers(0, 1000)))
def test_any_text_in_any_pieces_comes_out_whole(text: str, places: list[int]) -> None:
    shown, _ = run(cut(text.encode(), places))
    assert "".join(shown) == text


@given(data=st.binary(), places=st.lists(st.integers(0, 1000)))
def test_bytes_that_are_no_text_are_replaced_as_python_does(data: bytes, places: list[int]) -> None:
    shown, _ = run(cut(data, places))
    assert "".join(shown) == data.decode(errors="replace")


@given(
    text=st.text("ab😀", max_size=30), stop=st.text("ab😀", min_size=1, max_size=4), places=st.lists(st.integers(0, 99))
)
def test_nothing_of_a_stop_text_is_ever_shown(text: str, stop: str, places: list[int]) -> None:
    shown, stream = run(cut(text.encode(), places), (stop,))
    before, found, _ = text.partition(stop)
    assert "".join(shown) == before
    assert stream.stopped_at == (len(before) if found else None)


def test_half_a_character_is_never_shown() -> None:
    shown, _ = run([bytes([byte]) for byte in "é漢😀".encode()])
    assert [piece for piece in shown if piece] == ["é", "漢", "😀"]


def test_the_first_of_several_stop_texts_ends_the_text() -> None:
    shown, stream = run([b"one tw", b"o three"], ("three", "two"))
    assert "".join(shown) == "one "
    assert stream.stopped_at == 4


def test_text_that_only_begins_like_a_stop_text_is_shown_in_the_end() -> None:
    shown, stream = run([b"see </", b"end"], ("</s>",))
    assert shown == ["see ", "</end", ""]
    assert stream.stopped_at is None
