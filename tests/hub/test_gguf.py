"""Headers of GGUF files."""

import struct
from io import BytesIO

import pytest
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos.gguf import TENSORS_LIMIT, read, summary


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(*entries: bytes, tensors: tuple[tuple[int, ...], ...] = ((4, 3), (5,)), version: int = 3) -> bytes:
    begin = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    infos = (text(f"t{n}") + struct.pack(f"<I{len(s)}QIQ", len(s), *s, 0, 0) for n, s in enumerate(tensors))
    return begin + b"".join(entries) + b"".join(infos)


ENTRIES = (
    text("general.architecture") + struct.pack("<I", 8) + text("llama"),
    text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
    text("tokenizer.ggml.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
    text("llama.context_length") + struct.pack("<II", 4, 2048),
    text("general.flag") + struct.pack("<I?", 7, True),
)


def test_a_header_says_what_the_model_is():
    assert summary(BytesIO(gguf(*ENTRIES))) == {"total": 17, "architecture": "llama", "context_length": 2048}
    assert summary(BytesIO(gguf())) == {"total": 17}


def test_tensors_have_the_shape_that_other_formats_write():
    found = read(BytesIO(gguf(*ENTRIES)))
    assert [(one.name, one.type, one.shape) for one in found.tensors] == [("t0", "F32", (3, 4)), ("t1", "F32", (5,))]
    assert found.metadata["general.flag"] is True


def test_the_api_says_it_too(api: HfApi):
    api.create_repo("ann/gguf")
    api.upload_file(path_or_fileobj=gguf(*ENTRIES), path_in_repo="q4.gguf", repo_id="ann/gguf")
    info = api.model_info("ann/gguf")
    assert info.gguf == {"total": 17, "architecture": "llama", "context_length": 2048}
    assert "gguf" in info.tags
    api.upload_file(path_or_fileobj=b"GGUF?", path_in_repo="q4.gguf", repo_id="ann/gguf")
    assert api.model_info("ann/gguf").gguf is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"GGML" + bytes(100),
        gguf(version=1),
        gguf(*ENTRIES)[:-1],
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60),
        gguf(struct.pack("<Q", 1 << 63) + b"name"),
        b"GGUF" + struct.pack("<IQQ", 3, TENSORS_LIMIT + 1, 0) + bytes(24 * TENSORS_LIMIT + 24),
        gguf(text("a") + struct.pack("<I", 99)),
        gguf(tensors=((1,) * 9,)),
        gguf(text("a") + struct.pack("<IIQ", 9, 9, 1)),
        gguf(text("a") + struct.pack("<IIQ", 9, 8, 1 << 62)),
        gguf(text("a") + struct.pack("<IIQ", 9, 0, 1_000)),
    ],
)
def test_headers_that_lie_are_refused(content: bytes):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        summary(BytesIO(content))


@given(st.binary(max_size=100), st.integers(0, 300))
def test_damage_is_refused_or_read(damage: bytes, at: int):
    whole = gguf(*ENTRIES)
    try:
        assert summary(BytesIO(whole[:at] + damage + whole[at + len(damage) :]))["total"] >= 0
    except ValueError:
        return
