"""Milliseconds that a search and a list take on a hub of 100,000 repositories, on SQLite or PostgreSQL.

The repositories are rows of the index as uploads would write them: names, tags and cards in English and Chinese, with
some words that nearly all have and some that few have. Each question is asked through `Search.listing`, as the API
does, for the first 100 repositories; the median of its rounds counts. Then how many match, and by which filters (task,
language, …) they can be narrowed, as a page shows it. Usage:

    python benchmarks/search.py [--repositories 100000] [--database postgresql://USER@HOST/NAME] [--data DIRECTORY]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Sheet
from sqlalchemy import create_engine, func, insert, select

from lmcommons import environment
from lmcommons.files import write_json
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    Repository,
    RepositoryTag,
    RepositoryTerms,
    RepositoryType,
    now,
)
from lmcommons.hub.repos import terms
from lmcommons.hub.repos.facets import Facets
from lmcommons.hub.repos.search import Listing, Search
from lmcommons.hub.settings import Settings

RESULTS = Path(__file__).parent / "results"
LIMIT_MS = 200
SEED = 20261122
BATCH = 2_000
FAMILIES = (
    "Llama",
    "bert-base",
    "DistilBert",
    "gpt2",
    "t5",
    "Mistral",
    "Qwen2",
    "marian",
    "xlnet",
    "opus-mt",
    "pythia",
)
KINDS = ("chat", "instruct", "sentiment", "translation", "summarizer", "ner", "medical", "legal", "code", "embedder")
LANGUAGES = ("en", "zh", "fr", "de", "sw", "hi", "ar", "es", "yo", "uk")
TASKS = ("text-generation", "translation", "fill-mask", "text-classification", "summarization")
ENGLISH_TEXT = (
    "this model was fine tuned on a small corpus of documents that our community gathered cleaned and reviewed "
    "it answers questions summarises articles translates sentences and writes code for people who want an open "
    "reproducible baseline evaluation results training data licence limitations bias tokens perplexity accuracy "
    "hospital court newspaper parliament weather radio school university library village market river harvest"
)
CHINESE_TEXT = (
    "机器翻译 模型 训练 数据集 评测 结果 开源 社区 医疗 法律 新闻 问答 摘要 情感 分析 大语言 中文 英文 语料 清洗"
)
ENGLISH, CHINESE = ENGLISH_TEXT.split(), CHINESE_TEXT.split()
QUESTIONS = {
    "name, all repositories have it (model)": Listing(search="model"),
    "name, every tenth (bert)": Listing(search="bert"),
    "name, part of a word (stilb)": Listing(search="stilb"),
    "name, exact (distilbert-chat-4242)": Listing(search="DistilBert-chat-4242"),
    "namespace/name": Listing(search="team-7/llama"),
    "one letter (a)": Listing(search="a"),
    "text, English (parliament weather)": Listing(search="parliament weather"),
    "text, rare word (zymurgy)": Listing(search="zymurgy"),
    "text, Chinese (机器翻译)": Listing(search="机器翻译"),
    "text, one Chinese character (医)": Listing(search="医"),
    "nothing found": Listing(search="qqqqq"),
    "search, by downloads (bert)": Listing(search="bert", sort="downloads"),
    "search and tag (bert, zh)": Listing(search="bert", tags=("zh",)),
    "list, trending": Listing(),
    "list, newest, tag of half (commons)": Listing(sort="createdAt", tags=("commons",)),
    "list, rare tag (rare-7)": Listing(tags=("rare-7",)),
    "list, two tags and a task": Listing(tags=("sw", "license:mit"), pipeline_tag="translation"),
    "list, one author": Listing(author="team-7"),
    "list, 1 to 2 billion parameters": Listing(parameters=(10**9, 2 * 10**9)),
}


def main() -> None:
    """Fill the database when it is new, ask, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=int, default=100_000)
    parser.add_argument("--database", help="default: SQLite in the data directory")
    parser.add_argument("--data", type=Path, help="default: a temporary directory; kept ones are filled once")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings.make(options.data or Path(temporary) / "hub", database=options.database)
        with settings.open_data():
            database = Database(settings)
        with database.read() as session:
            present = session.scalar(select(func.count()).select_from(Repository)) or 0
        console = Console(stderr=True)
        if present == 0:
            console.print(f"Writing {options.repositories:,} repositories")
            fill(database, options.repositories)
            if settings.database_url.startswith("postgresql"):  # as the server does by itself some time after
                with create_engine(settings.database_url, isolation_level="AUTOCOMMIT").connect() as connection:
                    connection.exec_driver_sql("VACUUM ANALYZE")
        elif present != options.repositories:
            parser.error(f"the database holds {present:,} repositories, not {options.repositories:,}")
        figures = {name: ask(database, listing, options.rounds) for name, listing in QUESTIONS.items()}
        database.close()
    report(figures, options.repositories, settings.database_url.split(":", 1)[0])


def ask(database: Database, listing: Listing, rounds: int) -> dict[str, Any]:
    """Median milliseconds of a list of 100, how many it has in all, and the milliseconds that counting them takes.

    `processor_ms` is what this process computed: on SQLite all of it, whatever else the machine does.
    """
    search = Search(database)
    member = Actor(account_id=1, name="team-0")
    times, processor = [], []
    for actor in (ANONYMOUS, member) * rounds:
        start, used = time.perf_counter(), time.thread_time()
        search.listing(actor, RepositoryType.MODEL, listing)
        times.append(time.perf_counter() - start)
        processor.append(time.thread_time() - used)
    start = time.perf_counter()
    total = search.count(ANONYMOUS, RepositoryType.MODEL, listing)
    counting = time.perf_counter() - start
    start = time.perf_counter()
    Facets(database).of(ANONYMOUS, RepositoryType.MODEL, listing)
    filters = time.perf_counter() - start
    return {
        "list_ms": statistics.median(times) * 1e3,
        "processor_ms": statistics.median(processor) * 1e3,
        "found": total,
        "count_ms": counting * 1e3,
        "filters_ms": filters * 1e3,
    }


def fill(database: Database, number: int) -> None:
    """Write `number` models of 100 accounts; every 50th is private."""
    numbers = random.Random(SEED)
    with database.write() as session:
        session.add_all(
            Account(kind=AccountKind.USER, name=f"team-{team}", name_key=f"team-{team}", fullname="")
            for team in range(100)
        )
    for start in range(1, number + 1, BATCH):
        rows = [_row(numbers, identity) for identity in range(start, min(start + BATCH, number + 1))]
        with database.write() as session:
            session.execute(insert(Repository), [row for row, _, _ in rows])
            session.execute(insert(RepositoryTag), [tag for _, tags, _ in rows for tag in tags])
            session.execute(insert(RepositoryTerms), [words for _, _, words in rows])


def _row(numbers: random.Random, identity: int) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    team = numbers.randrange(100)
    language, task = numbers.choice(LANGUAGES), numbers.choice(TASKS)
    name = f"{numbers.choice(FAMILIES)}-{numbers.choice(KINDS)}-{identity}"
    tags = ["transformers", "safetensors", "model", language, task, "license:mit", f"rare-{identity % 5000}"]
    tags += ["commons"] if identity % 2 else []
    words = list(_words(numbers, language)) + (["zymurgy"] if identity % 10_000 == 77 else [])
    text = " ".join(words)
    made = now() - timedelta(minutes=numbers.randrange(1_000_000))
    row = {
        "id": identity,
        "type": RepositoryType.MODEL,
        "account_id": team + 1,
        "name": name,
        "name_key": name.lower(),
        "private": identity % 50 == 0,
        "created_at": made,
        "updated_at": made,
        "head": f"{identity:040x}",
        "card": {"language": language, "license": "mit", "tags": tags, "notes": text[:500]},
        "summary": text[:300],
        "parameters": None,
        "parameter_count": numbers.randrange(10**7, 10**10),
        "library": "transformers",
        "pipeline_tag": task,
        "storage": numbers.randrange(10**9),
        "downloads": int(numbers.paretovariate(0.8)) % 10**7,
        "likes": int(numbers.paretovariate(1.0)) % 10**5,
        "trending": numbers.random() * 100 + 2_900,
    }
    kinds = {"transformers": "library", "safetensors": "library", language: "language", task: "pipeline_tag"}
    kinds["license:mit"] = "license"
    tag_rows = [
        {"repository_id": identity, "tag": tag, "position": at, "kind": kinds.get(tag, "other")}
        for at, tag in enumerate(tags)
    ]
    full_name = f"team-{team}/{name}"
    found = {"repository_id": identity, "name": terms.of_name(full_name), "text": terms.of_text(" ".join(tags), text)}
    return row, tag_rows, found


def _words(numbers: random.Random, language: str) -> Iterator[str]:
    yield from numbers.choices(ENGLISH, k=60)
    if language == "zh":
        yield from numbers.choices(CHINESE, k=20)
    yield from (f"word{int(numbers.paretovariate(0.7)) % 200_000}" for _ in range(20))


def report(figures: dict[str, dict[str, Any]], number: int, database: str) -> None:
    """Print the table and write it as JSON."""
    sheet = Sheet(
        "question",
        "found",
        "list ms",
        "processor ms",
        "count ms",
        "filters ms",
        title=f"{number:,} repositories, {database}",
    )
    for name, row in figures.items():
        style = None if row["list_ms"] <= LIMIT_MS else "red"
        shown = (f"{row[column]:.0f}" for column in ("list_ms", "processor_ms", "count_ms", "filters_ms"))
        sheet.add_row(name, f"{row['found']:,}", *shown, style=style)
    Console().print(sheet)
    kind = "postgresql" if database.startswith("postgresql") else "sqlite"
    write_json(
        RESULTS / f"search-{kind}.json",
        {"repositories": number, "environment": environment.describe(), "questions": figures},
    )


if __name__ == "__main__":
    main()
