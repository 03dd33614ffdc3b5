"""Xet's formats: hashes equal to the reference client's, xorbs and shards that lie are refused with one line."""

import os
import struct
from contextlib import suppress
from pathlib import Path

import hf_xet
import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xet_parts import File, Term, cut, frame, header, shard, xorb

from lmcommons.hub.errors import BadRequest, HubError, TooLarge
from lmcommons.hub.objects.xet.hashing import chunk_hash, file_hash, from_text, keyed_hash, to_text, tree_hash
from lmcommons.hub.objects.xet.shard import known_chunks, parse_files
from lmcommons.hub.objects.xet.xorb import (
    CHUNK_LIMIT,
    CHUNKS_LIMIT,
    XORB_LIMIT,
    ChunkTable,
    Compression,
    XorbParser,
    read_chunks,
)

digests = st.binary(min_size=32, max_size=32)


def read(body: bytes, digest: bytes) -> ChunkTable:
    parser = XorbParser()
    verified = parser.feed(memoryview(body)[:7000])
    parser.feed(memoryview(body)[verified:])
    return parser.finish(digest)


# ------------------------------------------------------------ hashes


@given(digests)
def test_a_hash_is_read_back_from_its_text(digest: bytes):
    assert from_text(to_text(digest)) == digest


@pytest.mark.parametrize("text", ["", "g" * 64, "A" * 64, "0" * 63, "0" * 65, "٠" * 64])
def test_text_that_is_no_hash_is_refused(text: str):
    with pytest.raises(ValueError, match="not a Xet hash"):
        from_text(text)


@pytest.mark.parametrize("size", [0, 1, 100, 8191])
def test_a_file_of_one_chunk_has_the_hash_that_the_reference_client_computes(size: int, tmp_path: Path):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    reference = hf_xet.hash_files([str(tmp_path / "file")])[0].hash
    assert to_text(file_hash([(chunk_hash(content), size)] if size else [])) == reference


@given(st.lists(st.tuples(digests, st.integers(1, CHUNK_LIMIT)), min_size=2, max_size=40), st.data())
def test_a_tree_depends_on_every_chunk_and_on_their_order(nodes: list[tuple[bytes, int]], data: st.DataObject):
    root = tree_hash(nodes)
    position = data.draw(st.integers(0, len(nodes) - 1))
    digest, size = nodes[position]
    for other in ((bytes([digest[0] ^ 1]) + digest[1:], size), (digest, size + 1)):
        assert tree_hash([*nodes[:position], other, *nodes[position + 1 :]]) != root
    assert tree_hash(nodes[1:] + nodes[:1]) != root or nodes[1:] + nodes[:1] == nodes
    assert tree_hash(nodes[:1]) == nodes[0][0]


# ------------------------------------------------------------ xorbs


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=3000), st.sampled_from(list(Compression))), min_size=1, max_size=9
    )
)
def test_chunks_are_read_back_however_they_are_stored(chunks: list[tuple[bytes, Compression]]):
    body = b"".join(frame(content, compression) for content, compression in chunks)
    nodes = [(chunk_hash(content), len(content)) for content, _ in chunks]
    table = read(body, tree_hash(nodes))
    assert table.nodes() == nodes
    assert table.stored(0, len(table)) == (0, len(body))
    assert ChunkTable.from_bytes(table.to_bytes()).nodes() == nodes
    assert list(read_chunks(body)) == [content for content, _ in chunks]
    middle = len(chunks) // 2
    first, end = table.stored(middle, len(table))
    assert list(read_chunks(body[first:end])) == [content for content, _ in chunks[middle:]]
    assert table.size(0, middle) == sum(len(content) for content, _ in chunks[:middle])


def test_the_footer_of_older_clients_is_cut_off():
    sent = xorb(b"some content")
    table = read(sent.body + b"XETBLOB\0" + os.urandom(200), sent.digest)
    assert table.stored(0, len(table))[1] == len(sent.body)


CONTENT = os.urandom(25_000)
SENT = xorb(CONTENT)
ZEROS = lz4.frame.compress(bytes(100_000_000))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "no chunk"),
        (SENT.body[:4], "cut short after 4 bytes"),
        (SENT.body[:-1], "cut short after 5,007 bytes"),
        (header(100, 0, 5) + b"hello", "cut short after 13 bytes"),
        (SENT.body + b"\0", "cut short after 1 bytes"),
        (xorb(CONTENT[1:]).body, "another hash"),
        (b"".join(map(frame, reversed(cut(CONTENT)))), "another hash"),
        (header(5, 0, 6) + b"hello", "has 5 bytes of content and says 6"),
        (header(5, 0, 5, version=1) + b"hello", "of version 1"),
        (header(5, 3, 5) + b"hello", "compression 3"),
        (header(50, 1, 5) + b"hello" * 10, "not an LZ4 frame"),
        (header(0, 0, 0), "at most 131,072"),
        (header(5, 0, CHUNK_LIMIT + 1) + b"hello", "at most 131,072"),
        (header(2 * CHUNK_LIMIT + 1, 0, 5) + b"hello", "at most 131,072"),
        (frame(b"hello" * 99, Compression.LZ4, raw=100), "more or less than the 100 bytes"),
        (frame(b"hello" * 99, Compression.GROUPED_LZ4, raw=1000), "has 495 bytes of content and says 1,000"),
        (header(len(ZEROS), 1, CHUNK_LIMIT) + ZEROS, "at most 131,072"),
        (header(200_000, 1, CHUNK_LIMIT) + ZEROS[:200_000], "more or less than the 131,072 bytes"),
    ],
)
def test_a_xorb_that_lies_is_refused_in_one_line(body: bytes, complaint: str):
    with pytest.raises(BadRequest, match=complaint) as caught:
        read(body, SENT.digest)
    assert "\n" not in caught.value.message


def test_a_bomb_is_never_unpacked(monkeypatch: pytest.MonkeyPatch):
    # 256 KiB of LZ4 can say 64 MiB of zeros; not more than one chunk of it may come into memory.
    bomb = lz4.frame.compress(bytes(60_000_000), block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    assert len(bomb) < 2 * CHUNK_LIMIT
    made: list[int] = []
    decompressor = lz4.frame.LZ4FrameDecompressor

    class Watched(decompressor):  # type: ignore[misc, valid-type]
        def decompress(self, *arguments: object, **more: object) -> bytes:
            content = super().decompress(*arguments, **more)
            made.append(len(content))
            return content

    monkeypatch.setattr(lz4.frame, "LZ4FrameDecompressor", Watched)
    with pytest.raises(BadRequest):
        read(header(len(bomb), 1, CHUNK_LIMIT) + bomb, SENT.digest)
    assert made == [CHUNK_LIMIT]


def test_a_xorb_has_limits():
    with pytest.raises(BadRequest, match="more than"):
        read(frame(b"x") * (CHUNKS_LIMIT + 1), SENT.digest)
    with pytest.raises(BadRequest, match="more than"):
        read(frame(bytes(CHUNK_LIMIT), Compression.LZ4) * (XORB_LIMIT // CHUNK_LIMIT + 1), SENT.digest)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_xorb_is_refused_and_nothing_else_happens(data: st.DataObject):
    body = bytearray(xorb(CONTENT[:12_000], data.draw(st.sampled_from(list(Compression)))).body)
    digest = xorb(CONTENT[:12_000]).digest
    position = data.draw(st.integers(0, len(body) - 1))
    changed = data.draw(st.integers(0, 255).filter(lambda byte: byte != body[position]))
    body[position] = changed
    try:
        table = read(bytes(body), digest)
    except BadRequest:
        return
    # A byte that LZ4 ignores may change; what is read is still what the hash says.
    assert tree_hash(table.nodes()) == digest
    assert b"".join(read_chunks(bytes(body))) == CONTENT[:12_000]


# ------------------------------------------------------------ shards


def test_a_shard_says_what_files_are_made_of():
    one, other = xorb(os.urandom(50_000)), xorb(os.urandom(30_000))
    files = [File((Term(one, 1, 3), Term(other))), File((Term(other, 0, 1),), without_sha256=True), File(())]
    parsed = parse_files(shard(*files))
    assert [file.digest for file in parsed] == [file.true_digest for file in files]
    assert [file.sha256 for file in parsed] == [files[0].true_sha256, None, files[2].true_sha256]
    assert [(term.xorb, term.start, term.stop, term.size) for term in parsed[0].terms] == [
        (one.digest, 1, 3, 20_000),
        (other.digest, 0, 3, 30_000),
    ]


def test_a_shard_that_is_cut_short_anywhere_is_refused():
    whole = shard(File((Term(SENT),)))
    end = len(whole) - 2 * 48
    for length in range(end + 1):
        with pytest.raises(BadRequest):
            parse_files(whole[:length])
    assert len(parse_files(whole[: end + 32])) == 1


@pytest.mark.parametrize("count", [2**20, 2**32 - 1])
def test_a_shard_that_says_it_has_many_terms_is_refused_at_once(count: int):
    whole = bytearray(shard(File((Term(SENT),))))
    struct.pack_into("<I", whole, 48 + 36, count)
    with pytest.raises(TooLarge, match="more than 500,000 terms"):
        parse_files(bytes(whole))


def test_a_file_without_range_hashes_is_refused():
    whole = bytearray(shard(File((Term(SENT),))))
    struct.pack_into("<I", whole, 48 + 32, 1 << 30)
    with pytest.raises(BadRequest, match="hashes of its ranges"):
        parse_files(bytes(whole))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_shard_are_refused(body: bytes):
    with pytest.raises(HubError):
        parse_files(body)


@given(st.binary(max_size=400))
def test_whatever_follows_a_shards_header_is_read_or_refused(body: bytes):
    with suppress(HubError):
        assert len(parse_files(shard()[:48] + body)) <= len(body) // 48


def test_known_chunks_are_told_by_keyed_hashes_and_others_not_at_all():
    table = read(SENT.body, SENT.digest)
    key = os.urandom(32)
    told = known_chunks([(SENT.digest, table, np.array([True, False, True]))], key, 60)
    hashes = [keyed_hash(digest, key) in told for digest, _ in table.nodes()]
    assert hashes == [True, False, True]
    assert not any(digest in told for digest, _ in table.nodes())
