"""Milliseconds in which a hub of 10,000 repositories answers its pages, the first time and when it is warm.

The repositories are rows of the index as in search.py, with the likes, discussions and events of a busy community; a
few have real files and history, and their pages are asked for too. The hub runs in its own process, on SQLite, and one
client on the same machine waits for each page: what is measured is the whole answer. `first` is the first request for
this page after the hub has started, `warm` the median of the next ones, `worst` the slowest of those; `processor` is
what the hub computed for one, whatever else the machine did. Usage:

    python benchmarks/pages.py [--repositories 10000] [--data DIRECTORY] [--rounds 20]
"""

import argparse
import http.client
import json
import random
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from hub import Hub as HubProcess  # beside this file
from hub import start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from rich.console import Console
from rich.table import Table as Sheet
from search import SEED, fill
from sqlalchemy import func, insert, select

from lmcommons import environment
from lmcommons.files import write_json
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    CommentVersion,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    DiscussionStatus,
    Event,
    Repository,
    now,
)
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

RESULTS = Path(__file__).parent / "results"
LIMIT_MS = 100
EVENTS, DISCUSSIONS, FILES, COMMITS = 20_000, 2_000, 60, 30
CARD = """---
license: mit
language: [en, zh]
pipeline_tag: text-generation
tags: [commons]
---
# A model

""" + "\n\n".join(
    f"## Part {part}\n\n| a | b |\n|--|--|\n" + "| 1 | 2 |\n" * 10 + "\n```python\nprint(1)\n```" for part in range(10)
)
MODEL, DATASET = "ada/model", "ada/dataset"
PAGES = {
    "home": "/",
    "models": "/models",
    "models, page 300": "/models?page=300",
    "models by trend": "/models?sort=trendingScore",
    "search (bert)": "/models?search=bert",
    "search (机器翻译)": f"/models?search={quote('机器翻译')}",
    "search, nothing found": "/models?search=qqqqq",
    "filter (zh)": "/models?language=zh",
    "filter (zh, translation, 1B-10B)": "/models?language=zh&task=translation&size=1B-10B",
    "datasets": "/datasets",
    "account": "/team-7",
    "card": f"/{MODEL}",
    "files": f"/{MODEL}/tree/main",
    "file": f"/{MODEL}/blob/main/config.json",
    "weights": f"/{MODEL}/blob/main/model.safetensors",
    "history": f"/{MODEL}/commits/main",
    "discussions": f"/{MODEL}/discussions",
    "discussion": f"/{MODEL}/discussions/1",
    "lineage": f"/{MODEL}/lineage",
    "dataset": f"/datasets/{DATASET}",
    "rows": f"/datasets/{DATASET}/viewer",
    "leaderboards": "/leaderboards",
    "compare": f"/compare?models={MODEL}&models={MODEL}@v1",
}


def main() -> None:
    """Fill the hub when it is new, ask, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="default: a temporary directory; kept ones are filled once")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        rooms = Hub(Settings.make(folder / "hub"))
        with rooms.database.read() as session:
            present = session.scalar(select(func.count()).select_from(Repository)) or 0
        if present == 0:
            fill(rooms.database, options.repositories)
            fill_community(rooms.database, options.repositories)
            rooms.accounts.add_user("ada")
        rooms.close()
        with start_hub(folder) as hub:
            if present == 0:
                fill_files(hub.api)
        with start_hub(folder) as hub:
            figures = {name: ask(hub, path, options.rounds) for name, path in PAGES.items()}
    report(figures, options.repositories)


def fill_community(database: Database, repositories: int) -> None:
    """Write events and discussions of many people in many repositories; every third discussion was answered."""
    numbers = random.Random(SEED)
    start = now() - timedelta(days=30)
    kinds = ("repository.created", "branch.moved", "repository.liked", "repository.settings", "tag.created")
    with database.write() as session:
        session.execute(
            insert(Event),
            [
                {
                    "at": start + timedelta(minutes=number),
                    "kind": numbers.choice(kinds),
                    "actor": f"team-{numbers.randrange(100)}",
                    "repository_id": numbers.randrange(1, repositories + 1),
                    "data": {"ref": "refs/heads/main"},
                }
                for number in range(EVENTS)
            ],
        )
        for number in range(1, DISCUSSIONS + 1):
            asked = {"created_at": start, "kind": DiscussionEventKind.COMMENT, "data": {}}
            session.add(
                Discussion(
                    id=number,
                    repository_id=number,
                    number=1,
                    title=f"A question of {number}",
                    status=DiscussionStatus.OPEN,
                    author_id=numbers.randrange(1, 100),
                    comments=1,
                )
            )
            session.flush()
            owner = session.get_one(Repository, number).account_id
            author = owner if number % 3 == 0 else owner % 100 + 1
            comment = DiscussionEvent(discussion_id=number, author_id=author, **asked)
            comment.versions = [CommentVersion(text="Why?", author_id=author)]
            session.add(comment)


def fill_files(api: HfApi) -> None:
    """Make a model with many files and commits, and a dataset, as clients do."""
    api.create_repo(MODEL)
    api.create_repo(DATASET, repo_type="dataset")
    config = json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}).encode()
    header = json.dumps(
        {f"h.{n}.weight": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]} for n in range(99)}
    )
    weights = len(header).to_bytes(8, "little") + header.encode() + bytes(256)
    files = {f"parts/{number}.txt": b"x" * number for number in range(FILES)}
    files |= {f"{number}.txt": b"x" * number for number in range(FILES)}
    files |= {"README.md": CARD.encode(), "config.json": config, "model.safetensors": weights}
    commit(api, MODEL, files)
    api.create_tag(MODEL, tag="v1")
    for number in range(COMMITS):
        commit(api, MODEL, {f"{number}.txt": b"y" * (number + 1)})
    api.create_discussion(MODEL, "Why?", description="A question\n\n" * 10)
    rows = "".join(json.dumps({"id": number, "text": f"row {number}"}) + "\n" for number in range(5_000))
    commit(api, DATASET, {"README.md": b"# Rows\n", "train.jsonl": rows.encode()}, repo_type="dataset")


def commit(api: HfApi, name: str, files: dict[str, bytes], **more: Any) -> None:
    """One commit with these files."""
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(name, operations, commit_message=f"{len(files)} files", **more)


def ask(hub: HubProcess, path: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of the first and of the next answers, and how large they are as sent."""
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=60)
    connection.connect()
    times, size, used = [], 0, 0.0
    for number in range(rounds + 1):
        if number == 1:
            used = hub.cpu()
        start = time.perf_counter()
        connection.request("GET", path, headers={"Accept": "text/html", "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        size = len(answer.read())
        times.append((time.perf_counter() - start) * 1e3)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
    connection.close()
    return {
        "first_ms": times[0],
        "warm_ms": statistics.median(times[1:]),
        "worst_ms": max(times[1:]),
        "processor_ms": (hub.cpu() - used) / rounds * 1e3,
        "bytes": size,
    }


def report(figures: dict[str, dict[str, Any]], number: int) -> None:
    """Print the table and write it as JSON."""
    sheet = Sheet(
        "page", "first ms", "warm ms", "worst ms", "processor ms", "bytes", title=f"{number:,} repositories, SQLite"
    )
    for name, row in figures.items():
        shown = (f"{row[column]:.0f}" for column in ("first_ms", "warm_ms", "worst_ms", "processor_ms"))
        sheet.add_row(name, *shown, f"{row['bytes']:,}", style=None if row["warm_ms"] <= LIMIT_MS else "red")
    Console().print(sheet)
    described = environment.describe()
    write_json(RESULTS / "pages.json", {"repositories": number, "environment": described, "pages": figures})


if __name__ == "__main__":
    main()
