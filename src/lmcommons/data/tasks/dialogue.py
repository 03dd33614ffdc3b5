"""Short English conversations of the ChatterBot corpus."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from lmcommons.data.tasks.packages import Package, members
from lmcommons.data.tasks.source import Example, Removed, TaskSource, clean

ROLES = ("user", "assistant")


def _read(packages: list[Path], removed: Removed) -> Iterator[Example]:
    for _, content in members(packages[0], lambda name: "/data/english/" in name and name.endswith(".yml")):
        for turns in yaml.safe_load(content)["conversations"]:
            texts = [clean(str(turn)) for turn in turns]
            texts = texts[: len(texts) - len(texts) % 2]  # an answer stands last
            if not texts or not all(texts):
                removed["without an answer"] += 1
                continue
            messages = [{"role": ROLES[place % 2], "content": text} for place, text in enumerate(texts)]
            yield Example({"messages": messages}, texts[0])


SOURCE = TaskSource(
    task="chat",
    summary="Short English conversations, mostly a question and its answer.",
    packages=(
        Package(
            "pypi",
            "chatterbot-corpus",
            "1.3.3",
            "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        ),
    ),
    read=_read,
    licence="BSD-3-Clause",
    language=("en",),
    limits="A toy: some hundred conversations, jokes and wrong answers among them. It shows that chat templates and "
    "the loss on answers work; no model that was trained on it is of use.",
)
