"""Attachments: what their bytes say they are, for those who sign in, served so that nothing in them runs."""

import secrets
import struct
import zlib
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import HfApi

from lmcommons.hub.community.attachments import recognise


def png(text: bytes) -> bytes:
    """A picture of one dot, with a comment."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    rows = chunk(b"IHDR", header) + chunk(b"tEXt", b"Comment\0" + text) + chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + rows + chunk(b"IEND", b"")


def post(api: HfApi, content: bytes) -> httpx.Response:
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    return httpx.post(f"{api.endpoint}/uploads", content=content, headers=headers)


def read(address: str, **headers: str) -> bytes:
    return httpx.get(address, headers=headers, follow_redirects=True).content


def test_a_picture_is_uploaded_and_shown(api: HfApi, tmp_path: Path):
    content = png(secrets.token_bytes(9))
    (tmp_path / "picture.png").write_bytes(content)
    address = api.upload_attachment(tmp_path / "picture.png")
    assert address.startswith(f"{api.endpoint}/uploads/")
    shown = httpx.get(address)
    assert read(address) == content
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in shown.headers["content-security-policy"]
    assert read(address, Range="bytes=1-3") == b"PNG"
    assert httpx.get(address, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    assert api.upload_attachment(tmp_path / "picture.png") == address
    (tmp_path / "lies.jpg").write_bytes(content)
    assert api.upload_attachment(tmp_path / "lies.jpg") == address, "the name says nothing"


@pytest.mark.parametrize(
    "content", [b"", b"<html><script>alert(1)</script>", b"<svg/>", b"%PDF-1.7", b"\x7fELF", b"\x89PNG"]
)
def test_what_is_no_picture_video_or_sound_is_refused(api: HfApi, content: bytes):
    answer = post(api, content)
    assert answer.status_code == 400
    assert "this file is none of them" in answer.json()["error"]


def test_only_who_is_signed_in_to_write_uploads(hub: HubProcess):
    assert post(HfApi(hub.endpoint, token=False), png(b"")).status_code == 401
    assert post(HfApi(hub.endpoint, token=hub.add_token("ann", "read")), png(b"")).status_code == 403


def test_sizes_have_limits(api: HfApi):
    too_large = post(api, png(b"") + bytes(10 << 20))
    assert too_large.status_code == 413
    assert "at most 10 MiB" in too_large.json()["error"]
    assert post(api, b"\0\0\0\x18ftypisom" + bytes(11 << 20)).status_code == 200
    assert post(api, b"\0\0\0\x18ftypisom" + bytes(50 << 20)).status_code == 413


def test_an_object_that_nobody_attached_is_not_served(api: HfApi, new_repository):
    repo = new_repository(private=True)
    content = png(secrets.token_bytes(9))
    api.upload_file(path_or_fileobj=content, path_in_repo="p.png", repo_id=repo)
    lfs = api.get_paths_info(repo, "p.png")[0].lfs
    sha256 = lfs.sha256 if lfs else "0" * 64
    for name in (f"{sha256}.png", sha256, "x.png", f"{'0' * 64}.png"):
        assert httpx.get(f"{api.endpoint}/uploads/{name}").status_code == 404
    address = post(api, content).text
    assert read(address) == content
    assert httpx.get(address.replace(".png", ".gif")).status_code == 404


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\0\0\0\x18ftypmp42", "video/mp4"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
    ],
)
def test_formats_are_known_by_their_first_bytes(head: bytes, media_type: str):
    found = recognise(head)
    assert found is not None
    assert found.media_type == media_type
