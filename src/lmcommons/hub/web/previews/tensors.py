"""The tensors of a safetensors file, or of all that an index names, as a tree by their dotted names."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import BinaryIO

from lmcommons.hub.repos import gguf, safetensors
from lmcommons.hub.repos.tensors import Tensor, layout

ROWS = 400  # tensors and groups of a page; what finds no room is a link to a page of its own
LEVELS = 10  # of groups in one another


@dataclass
class Group:
    """Tensors whose names begin with `prefix`: `label` is what the group adds to the name of the group above.

    What its names differ in begins at the character `start`. Where `is_open` is false, there was no room for it.
    """

    prefix: str
    label: str
    start: int
    level: int
    members: list[Tensor]
    groups: list["Group"] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    is_open: bool = False

    @property
    def parameters(self) -> int:
        """How many values its tensors hold."""
        return sum(tensor.count for tensor in self.members)

    @property
    def hidden(self) -> int:
        """Of its own tensors, those past the end of the page."""
        return len(self.members) - len(self.tensors) - sum(len(group.members) for group in self.groups)


def tensors(file: BinaryIO, within: str) -> Group:
    """The tensors whose names begin with `within` and a dot, or all, as a tree that fits on a page.

    Raises:
        ValueError: this is no safetensors file.
    """
    return _tree(list(layout(file).values()), within)


def sharded(index: BinaryIO, open_shard: Callable[[str], BinaryIO], within: str) -> tuple[Group, dict[str, str]]:
    """The same of all files that an index names; and in which of them each tensor is.

    Raises:
        ValueError: this is no index, or one of the files is not what it should be.
    """
    found, shards = [], {}
    for shard, header in safetensors.headers(index, open_shard)["headers"].items():
        for name, tensor in header.items():
            if name != "__metadata__":
                found.append(Tensor(name, tensor["dtype"], tuple(tensor["shape"]), *tensor["data_offsets"]))
                shards[name] = shard
    return _tree(found, within), shards


def quantised(header: gguf.Header) -> Group:
    """The same of a GGUF file, of whose tensors only names, types and shapes are known."""
    return _tree([Tensor(tensor.name, tensor.type, tensor.shape, 0, 0) for tensor in header.tensors], "")


def _tree(found: list[Tensor], within: str) -> Group:
    start = len(within) + 1 if within else 0
    members = [tensor for tensor in found if not within or tensor.name.startswith(f"{within}.")]
    root = Group(within, within, start, 0, sorted(members, key=_natural))
    waiting, left = deque([root]), ROWS
    while waiting:
        group = waiting.popleft()
        groups, own = _divide(group)
        if group is root:
            groups, own = groups[:ROWS], own[: max(0, ROWS - len(groups))]
        elif left < len(groups) + len(own) or group.level > LEVELS:
            continue
        group.groups, group.tensors, group.is_open = groups, own, True
        left -= len(groups) + len(own)
        waiting.extend(groups)
    return root


def _divide(group: Group) -> tuple[list[Group], list[Tensor]]:
    """What is right below a group; a tensor that would be alone in a group is in none."""
    parts: dict[str, list[Tensor]] = {}
    for tensor in group.members:
        parts.setdefault(tensor.name[group.start :].partition(".")[0], []).append(tensor)
    groups, own = [], []
    for label, members in parts.items():
        if len(members) == 1:
            own += members
        else:
            prefix = _shared(members, group.start + len(label))
            groups.append(Group(prefix, prefix[group.start :], len(prefix) + 1, group.level + 1, members))
    return groups, own


def _shared(members: Sequence[Tensor], length: int) -> str:
    """The longest beginning of all names, at least so long, that ends before a dot."""
    first, last = min(member.name for member in members), max(member.name for member in members)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return first[: max(length, first.rfind(".", length, same))]


def _natural(tensor: Tensor) -> list[tuple[int, str]]:
    """Numbers in names in the order of numbers: layers.2 before layers.10."""
    return [(int(part[:18]), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", tensor.name)]
