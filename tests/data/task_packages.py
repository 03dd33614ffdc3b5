"""Small packages in the formats of Debian, npm and PyPI, with pages and rows written like those of the real ones."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(path: Path, contents: Mapping[str, str], mode: str = "w:gz") -> Path:
    """A tar file, as npm packages and source packages of PyPI are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_tar(contents, mode))
    return path


def write_wheel(path: Path, contents: Mapping[str, str]) -> Path:
    """A wheel of PyPI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return path


def write_debian(path: Path, contents: Mapping[str, str]) -> Path:
    """A Debian package: an `ar` archive with three members, padded to even sizes."""
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": _tar(contents, "w:xz")}
    blob = b"!<arch>\n"
    for name, content in parts.items():
        blob += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        blob += content + b"\n" * (len(content) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)
    return path


def _tar(contents: Mapping[str, str], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


def help_page(*blocks: str) -> str:
    """A page of LibreOffice's help; blocks are HTML with `{n}` where their number stands."""
    numbered = "\n".join(block.replace("{n}", str(number)) for number, block in enumerate(blocks))
    return (
        '<!DOCTYPE html><html><head><title>t</title></head><body><p id="par_id9">menu</p>'
        f'<div id="DisplayArea">{numbered}</div></body></html>'
    )


def help_package(directory: Path, language: str, folder: str, pages: Mapping[str, str]) -> Path:
    """The package of LibreOffice's help in a language."""
    root = f"./usr/share/libreoffice/help/{folder}/text"
    return write_debian(
        directory / f"libreoffice-help-{language}_7_all.deb",
        {f"{root}/{name}": text for name, text in pages.items()} | {f"{root}/../style.css": "p {}"},
    )


def heading(text: str) -> str:
    """A heading block."""
    return f'<h2 id="hd_id{{n}}" dir="auto">{text}</h2>'


def paragraph(text: str) -> str:
    """A paragraph block."""
    return f'<p id="par_id{{n}}" class="paragraph">{text}</p>'


def mail(group: str, number: int, text: str) -> tuple[str, str]:
    """A file of the mail package: its name and content."""
    content = json.dumps({"id": f"{number:05}", "group": group, "checksum": {"value": "0"}, "text": text})
    return f"package/data/{group}/{number:05}.0a1b.json", content
