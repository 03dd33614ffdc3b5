"""What the hub's rooms say: the templates of their errors and other Words, as they stand in the code."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lmcommons import hub
from lmcommons.hub import app  # noqa: F401 - brings all rooms, and with them all classes of errors
from lmcommons.hub.accounts.accounts import OWNERS
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import (
    AccessStatus,
    CaseStatus,
    CollectionItemKind,
    DiscussionStatus,
    RepositoryType,
    Role,
)
from lmcommons.hub.errors import HubError, Malformed
from lmcommons.hub.words import Words

HUB = Path(hub.__file__).parent
# Read by programs, by git's user in a terminal, or by the operator on the command line: in English alone.
ENGLISH = (
    "api/",
    "objects/",
    "buckets/",
    "ssh/",
    "repos/push.py",
    "repos/transport.py",
    "repos/pack.py",
    "settings.py",
    "words.py",
)
# Words that are one of several nouns, by the expression that stands for them.
NOUNS: dict[str, Iterable[str]] = {
    "action": Action,
    "role": Role,
    "kind": [*OWNERS, *CollectionItemKind],
    "self.kind": ("api", "resolvers", "pages", "sign-in", "mail"),
    "status": AccessStatus,
    "discussion.status": DiscussionStatus,
    "case.status": CaseStatus,
    "type_": RepositoryType,
    "repository.type": RepositoryType,
    "side": ("old", "new"),
}


@dataclass(frozen=True)
class Said:
    """A template, where it stands, and the names of its values; None for what only a run of the code knows."""

    path: str
    line: int
    template: str | None
    values: frozenset[str] | None


def said() -> list[Said]:
    """All that the rooms and pages say to members."""
    errors = {kind.__name__ for base in (HubError, Malformed) for kind in _kinds(base)}
    takers = {kind.__name__ for base in (HubError, Malformed, Words) for kind in _kinds(base) if _takes_template(kind)}
    found: list[Said] = []
    for path in sorted(HUB.rglob("*.py")):
        name = path.relative_to(HUB).as_posix()
        if not name.startswith(ENGLISH):
            for node in ast.walk(ast.parse(path.read_text())):
                given = [*_given(node, takers), *_given_by_class(node, errors)]
                found += [Said(name, part.lineno, text, _values(node)) for part, text in given]
    return found


def _kinds(kind: type) -> Iterator[type]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _kinds(derived)


def _takes_template(kind: type) -> bool:
    return next(iter(inspect.signature(kind).parameters), "") in ("message", "template")


def _given(node: ast.AST, takers: set[str]) -> Iterator[tuple[ast.expr, str | None]]:
    """The templates in a call that makes an error or Words."""
    if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rpartition(".")[2] in takers:
        yield from _templates(node.args[0])


def _given_by_class(node: ast.AST, errors: set[str]) -> Iterator[tuple[ast.expr, str | None]]:
    """The templates that a class of errors hands to its base, or has as a default."""
    if isinstance(node, ast.ClassDef) and node.name in errors:
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and part.args and ast.unparse(part.func) == "super().__init__":
                yield from _templates(part.args[0])
            elif isinstance(part, ast.arguments) and [one.arg for one in part.posonlyargs] == ["self", "message"]:
                yield from (found for default in part.defaults for found in _templates(default))


def _values(node: ast.AST) -> frozenset[str] | None:
    names = [keyword.arg for keyword in node.keywords] if isinstance(node, ast.Call) else [None]
    return None if None in names else frozenset(name for name in names if name)


def _templates(node: ast.expr) -> Iterator[tuple[ast.expr, str | None]]:
    expression = ast.unparse(node)
    if isinstance(node, ast.IfExp):
        yield from (*_templates(node.body), *_templates(node.orelse))
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _templates(value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node, node.value
    elif expression in NOUNS:
        yield from ((node, str(noun)) for noun in NOUNS[expression])
    elif expression not in ("message", "self.message", "Words(message, **values)"):  # what a class was given itself
        yield node, None
