"""What an image is and how large, by its header: nothing is decoded, so what unpacks to gigabytes does no harm.

Sources: PNG (W3C, chapter 11.2.2), GIF89a (chapter 18), JPEG (ITU-T T.81, annex B.2.2), WebP (RFC 9649), AVIF (AOM,
chapter 6, and ISO/IEC 23008-12, chapter 6.5.3), BMP (Windows' BITMAPINFOHEADER).
"""

import re
from typing import BinaryIO, Literal

HEADER_LIMIT = 256 << 10  # bytes; a JPEG may have a small image of itself before its size

# What the content of an image begins with. None of these runs anything in a browser.
_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_AVIF = (b"ftypavif", b"ftypavis")
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x28\x6c\x7c]\0\0\0", re.DOTALL)  # with a header of version 3, 4 or 5
_EXTENT = re.compile(rb"\0\0\0\x14ispe\0{4}(.{8})", re.DOTALL)  # width and height of an image, or of a part of it
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def media_type(content: bytes) -> str | None:
    """The media type of an image that browsers show, by its first bytes."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in _AVIF:
        return "image/avif"
    if _BMP.match(content):
        return "image/bmp"
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)


def dimensions(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height in pixels of an image; None where its header does not say it."""
    head = file.read(HEADER_LIMIT)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        return _pair(head[16:24], 4, "big")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _pair(head[6:10], 2, "little")
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    if head[4:12] in _AVIF:
        extents = [_pair(found[1], 4, "big") or (0, 0) for found in _EXTENT.finditer(head)]
        return max(extents, key=lambda extent: extent[0] * extent[1], default=None)
    if _BMP.match(head) and len(head) >= 26:
        lines = int.from_bytes(head[22:26], "little", signed=True)  # below zero where the first is on top
        return int.from_bytes(head[18:22], "little"), abs(lines)
    return None


def _pair(content: bytes, size: int, order: Literal["big", "little"]) -> tuple[int, int] | None:
    """Two numbers of `size` bytes each."""
    if len(content) < 2 * size:
        return None
    return int.from_bytes(content[:size], order), int.from_bytes(content[size:], order)


def _jpeg(head: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 4 <= len(head) and head[position] == 0xFF:
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4], "big")
        if marker in _START_OF_FRAME:
            found = _pair(head[position + 5 : position + 9], 2, "big")
            return (found[1], found[0]) if found else None
        position += 2 + length if marker != 0xFF else 1  # any number of 0xFF may stand before a marker
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if len(head) < 30:
        return None
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None
