"""CPython's documentation topics and the standard library's docstrings as documents.

A topic is a document; so is a top-level class with its methods; so is the rest of a module, its functions among it.

The library's source files are parsed, not imported: importing some of them opens windows, sockets or terminals.
Licence: PSF-2.0, as the interpreter's own.
"""

import ast
import builtins
import inspect
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from pydoc_data.topics import topics

from lmcommons.data.step import Document

LICENCE = "PSF-2.0"
SEPARATOR = "\n\n\n"
# Tests, bundled applications, and code that is not the standard library's own.
SKIPPED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "dist-packages",
    "turtledemo",
    "__phello__",
}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documents() -> Iterator[Document]:
    """The topics, the built-in functions and types, and the library's modules, each in the order of their names."""
    for topic in sorted(topics):
        yield _document(topics[topic], f"pydoc_data.topics:{topic}")
    for name, text in _builtins():
        yield _document(text, f"builtins.{name}")
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED.intersection(parts) or not all(part.isidentifier() for part in parts):
            continue
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for name, text in module_documents(path.read_bytes(), module).items():
            yield _document(text, name)


def module_documents(source: bytes, module: str) -> dict[str, str]:
    """The documentation in a module's source: by the name of the module or of a top-level class, what it says.

    Docstrings stand in the source's order, each under the name and the parameters of what it describes.
    """
    tree = ast.parse(source)
    sections: dict[str, list[str]] = {module: []}
    if docstring := ast.get_docstring(tree):
        sections[module].append(docstring)
    classes = {f"{module}.{node.name}" for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for name, node in _definitions(tree, module):
        if docstring := ast.get_docstring(node):
            top = ".".join(name.split(".")[: module.count(".") + 2])
            owner = top if top in classes else module
            sections.setdefault(owner, []).append(f"{_heading(name, node)}\n\n{docstring}")
    return {name: SEPARATOR.join(parts) for name, parts in sections.items() if parts}


def _definitions(parent: ast.AST, name: str) -> Iterator[tuple[str, Definition]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Definition):
            qualified = f"{name}.{node.name}"
            yield qualified, node
            yield from _definitions(node, qualified)
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node, name)


def _heading(name: str, node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    return f"{name}({ast.unparse(node.args)})"


def _builtins() -> Iterator[tuple[str, str]]:
    """The names and docstrings of the built-in functions and types; a type's methods stand with it."""
    for name, value in sorted(vars(builtins).items()):
        if name.startswith("_") or not callable(value):
            continue
        sections = [f"{name}\n\n{inspect.getdoc(value) or ''}"]
        if inspect.isclass(value):
            for method, member in sorted(vars(value).items()):
                if not method.startswith("_") and callable(member):
                    sections.append(f"{name}.{method}\n\n{inspect.getdoc(member) or ''}")
        yield name, SEPARATOR.join(sections)


def _document(text: str, source: str) -> Document:
    return Document(sha256(text.encode()).hexdigest()[:32], text, source, LICENCE)
