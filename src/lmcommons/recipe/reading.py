"""From YAML to a recipe and back, with errors of one line that name the field."""

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from lmcommons.errors import RequestError
from lmcommons.recipe.finetuning import TaskRecipe
from lmcommons.recipe.recipe import Recipe

Kind = TypeVar("Kind", Recipe, TaskRecipe)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers (3e-4 is a number) and no repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"field {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse(text: str, name: str = "recipe") -> Recipe:
    """Read a recipe from YAML text; `name` stands for the file in messages.

    Raises:
        RequestError: one line with the file, the line, the field and what would be right.
    """
    return _parse(text, name, Recipe)


def _parse(text: str, name: str, kind: type[Kind]) -> Kind:
    value, tree = _mapping(text, name)
    if ("finetuning" in value) != (kind is TaskRecipe):
        right = "run it with `lmc finetune`" if kind is Recipe else "a fine-tuning recipe has a section `finetuning`"
        raise RequestError(f"{name}: a recipe of the other kind; {right}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise RequestError(_one_line(error, name, tree, kind)) from error


def _mapping(text: str, name: str) -> tuple[dict[Any, Any], yaml.Node | None]:
    """The fields in YAML text, and where each stands."""
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        tree = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"{name}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RequestError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise RequestError(
            f"{name}: a recipe is a mapping of fields (name, data, model, …), not {type(value).__name__}"
        )
    return value, tree


def load(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RequestError: the file is absent, is not UTF-8, or is not a recipe; one line.
    """
    return _parse(_read(path), str(path), Recipe)


def load_task(path: Path) -> TaskRecipe:
    """Read a fine-tuning recipe.

    Raises:
        RequestError: as `load`.
    """
    return _parse(_read(path), str(path), TaskRecipe)


def load_any(path: Path) -> Recipe | TaskRecipe:
    """Read a recipe file of either kind.

    Raises:
        RequestError: as `load`.
    """
    text = _read(path)
    if "finetuning" in _mapping(text, str(path))[0]:
        return _parse(text, str(path), TaskRecipe)
    return _parse(text, str(path), Recipe)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such recipe file") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error


def dump(recipe: Recipe | TaskRecipe) -> str:
    """The recipe with every default written out, as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _one_line(error: ValidationError, name: str, tree: yaml.Node | None, kind: type[Recipe] | type[TaskRecipe]) -> str:
    first, *others = error.errors(include_url=False)
    path = [str(part) for part in first["loc"]]
    if path[:2] == ["data", "sources"] and len(path) > 3:
        del path[3]  # the discriminator's value, which is no field of the file
    if path[:2] in (["finetuning", "method"], ["pretraining", "objective"]) and len(path) > 3:
        del path[2]
    if first["type"] == "extra_forbidden":
        known = _fields_at(path[:-1], kind)
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        message = f"unknown field; {hint}"
    elif first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = "is required"
    else:
        given = first.get("input")
        message = first["msg"][0].lower() + first["msg"][1:]
        if isinstance(given, str | int | float | bool):
            message += f", not {given!r}"
    field = ".".join(path) or "recipe"
    more = f" (and {len(others)} more)" if others else ""
    return f"{name}{_line_of(tree, path)}: {field}: {message}{more}"


def _line_of(node: yaml.Node | None, path: list[str]) -> str:
    """`:LINE` of the deepest node that `path` reaches."""
    if node is None:
        return ""
    line = node.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line
        else:
            break
    return f":{line + 1}"


def _fields_at(path: list[str], kind: type[Recipe] | type[TaskRecipe]) -> list[str]:
    """The names of the fields of the section that `path` reaches."""
    schema = kind.model_json_schema()
    definitions = schema["$defs"]
    here: list[dict[str, Any]] = [schema]
    for part in path:
        deeper: list[dict[str, Any]] = []
        for section in here:
            value = (
                section["items"]
                if part.isdigit() and "items" in section
                else section.get("properties", {}).get(part, {})
            )
            for choice in [value, *value.get("oneOf", []), *value.get("anyOf", [])]:
                name = choice.get("$ref", "").rsplit("/", 1)[-1]
                deeper.append(definitions.get(name, choice))
        here = deeper
    return sorted({name for section in here for name in section.get("properties", {})})
