"""What a repository says about itself in its files at one commit, beyond the index: configuration and results."""

import json
from typing import Any

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.git import GitRepository

CARD = "README.md"
CONFIGURATION = "config.json"
SMALL = 1 << 20  # bytes; larger files are not read
RESULTS = ".eval_results"
RESULT_FILES_LIMIT = 100


def read_text(git: GitRepository, commit: str, path: str) -> str:
    """A small text file; empty when it is absent, large, or in the object store."""
    try:
        entry = git.entry(commit, path)
    except EntryNotFound:
        return ""
    if entry.type != "file" or entry.lfs or entry.size > SMALL:
        return ""
    return git.read(entry.oid).decode(errors="replace")


def configuration(git: GitRepository, commit: str) -> dict[str, Any]:
    """`config.json`; empty when it cannot be read."""
    try:
        found = json.loads(read_text(git, commit, CONFIGURATION) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def evaluation_results(git: GitRepository, commit: str) -> list[dict[str, Any]]:
    """The entries of `.eval_results/*.yaml`; a file that cannot be read is `{filename, error}`."""
    try:
        files = git.entries(commit, RESULTS, limit=RESULT_FILES_LIMIT)
    except EntryNotFound:
        return []
    results: list[dict[str, Any]] = []
    for file in files:
        if file.type != "file" or not file.path.endswith((".yaml", ".yml")):
            continue
        try:
            entries = cards.parse_yaml(read_text(git, commit, file.path))
            for entry in entries if isinstance(entries, list) else [entries]:
                if not isinstance(entry, dict) or not isinstance(entry.get("dataset"), dict) or "value" not in entry:
                    raise ValueError("each entry needs `dataset: {id, task_id}` and `value`")
                if not {"id", "task_id"} <= entry["dataset"].keys():
                    raise ValueError("`dataset` needs `id` and `task_id`")
                results.append({"filename": file.path, "data": entry})
        except ValueError as error:
            results.append({"filename": file.path, "error": str(error)})
    return results
