"""Git LFS pointers: the small text that git keeps where the content lies in the object store.

A pointer with extensions counts as text: its object is not the file's content, but what a program of the uploader made
of it. Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

import re
from dataclasses import dataclass

POINTER_SIZES = range(125, 144)  # bytes of a pointer, so that other blobs need not be read

# What large-model and data files are usually called; a repository's first commit says that these go to LFS.
LFS_PATTERNS = (
    "*.7z", "*.arrow", "*.avro", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gguf", "*.gz", "*.h5", "*.joblib",
    "*.lz4", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb",
    "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "*.tar", "*.tflite", "*.tgz", "*.wasm", "*.xz",
    "*.zip", "*.zst", "*tfevents*",
    "*.aac", "*.bmp", "*.flac", "*.gif", "*.jpeg", "*.jpg", "*.mp3", "*.mp4", "*.ogg", "*.pcm", "*.png", "*.tiff",
    "*.wav", "*.webm", "*.webp",
)  # fmt: skip

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"oid sha256:(?P<sha256>[0-9a-f]{64})\nsize (?P<size>\d{1,18})\n?"
)


@dataclass(frozen=True)
class LfsPointer:
    """Where a file's content is: its `sha256` and `size` in bytes; `pointer_size` is the pointer's own, in bytes."""

    sha256: str
    size: int
    pointer_size: int


def format_pointer(sha256: str, size: int) -> bytes:
    """The pointer to `size` bytes with the hash `sha256`."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def default_attributes() -> bytes:
    """The `.gitattributes` that sends large formats to LFS."""
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS).encode()


def parse_pointer(blob: bytes) -> LfsPointer | None:
    """The pointer that `blob` is, or None when it is ordinary content."""
    match = _POINTER.fullmatch(blob)
    if match is None:
        return None
    return LfsPointer(match["sha256"].decode(), int(match["size"]), len(blob))
