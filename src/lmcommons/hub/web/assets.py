"""The files that every browser may keep: style sheet and scripts, at addresses that change with their content."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).parent / "static"
KINDS = {".css": "text/css", ".js": "text/javascript"}


@dataclass(frozen=True)
class Asset:
    """A file of `static/`, its content type, and the address that pages name."""

    content: bytes
    kind: str
    address: str


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    version = hashlib.sha256(content).hexdigest()[:12]
    return Asset(content, KINDS[path.suffix], f"/static/{version}/{path.name}")


ASSETS = {path.name: _read(path) for path in sorted(STATIC.iterdir()) if path.suffix in KINDS}


def static(name: str) -> str:
    """The address of a file of `static/`."""
    return ASSETS[name].address
