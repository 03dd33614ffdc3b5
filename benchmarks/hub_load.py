"""Many clients of one hub at once, which check every byte that they get: what `hub.py` and the tests put on a hub.

    HF_TOKEN=… python benchmarks/hub_load.py http://127.0.0.1:7860 --clients 200 --seconds 60

makes the repositories `load-0` to `load-7` of the token's user, asks for files, parts of a large file, lists and
information, and commits, as fast as it is answered; prints JSON. 429 is an answer, everything else unexpected an error.
"""

import argparse
import asyncio
import io
import json
import os
import random
import statistics
import time
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field

import httpx
from huggingface_hub import CommitOperationAdd, HfApi

REPOSITORIES = 8
LARGE = random.Random(1).randbytes(8 << 20)
PART = 64 << 10  # bytes
TIMEOUT = 120  # seconds


@dataclass
class Tally:
    """What the clients saw."""

    requests: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    limited: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0  # answers with other bytes than were uploaded


def prepare(endpoint: str, token: str) -> str:
    """Make the repositories; returns the user's name."""
    api = HfApi(endpoint, token=token)
    user = str(api.whoami()["name"])
    for number in range(REPOSITORIES):
        api.create_repo(f"{user}/load-{number}", exist_ok=True)
        operations = [
            CommitOperationAdd("config.json", _config(number)),
            CommitOperationAdd("large.bin", io.BytesIO(LARGE)),  # a file object goes by LFS
        ]
        api.create_commit(f"{user}/load-{number}", operations, commit_message="Files")
    return user


def _config(number: int) -> bytes:
    return json.dumps({"number": number}).encode()


async def client(http: httpx.AsyncClient, user: str, seed: int, until: float, tally: Tally) -> None:
    """One client: one request after another until the time is over."""
    generator = random.Random(seed)
    count = 0
    while time.monotonic() < until:
        count += 1
        number = generator.randrange(REPOSITORIES)
        name = f"{user}/load-{number}"
        kind = generator.choices(("file", "part", "head", "info", "tree", "list", "commit"), (4, 4, 3, 3, 2, 2, 1))[0]
        expected: bytes | None = None
        headers, body, method = {}, None, "GET"
        if kind == "file":
            path, expected = f"/{name}/resolve/main/config.json", _config(number)
        elif kind == "part":
            start = generator.randrange(len(LARGE) - PART)
            path, expected = f"/{name}/resolve/main/large.bin", LARGE[start : start + PART]
            headers = {"Range": f"bytes={start}-{start + PART - 1}"}
        elif kind == "head":
            path, method = f"/{name}/resolve/main/large.bin", "HEAD"
        elif kind == "info":
            path = f"/api/models/{name}"
        elif kind == "tree":
            path = f"/api/models/{name}/tree/main"
        elif kind == "list":
            path = "/api/models?search=load&limit=10"
        else:
            path, method, body = f"/api/models/{name}/commit/main", "POST", _commit(f"{seed}/{count}.txt")
            headers = {"Content-Type": "application/x-ndjson"}
        began = time.monotonic()
        try:
            # As the Python client: what a bucket has is asked for there, and described by the hub.
            answer = await http.request(method, path, headers=headers, content=body, follow_redirects=method == "GET")
        except httpx.TransportError as error:
            tally.errors[f"{kind}: {type(error).__name__}"] += 1
            continue
        tally.requests[kind] += 1
        tally.seconds.setdefault(kind, []).append(time.monotonic() - began)
        if answer.status_code == 429:
            tally.limited += 1
            await asyncio.sleep(1)
        elif answer.status_code not in ((200, 302) if kind == "head" else (200, 206)):
            tally.errors[f"{kind}: {answer.status_code} {answer.text[:100]}"] += 1
        elif expected is not None and answer.content != expected:
            tally.wrong += 1


def _commit(path: str) -> bytes:
    content = b64encode(path.encode()).decode()
    lines = (
        {"key": "header", "value": {"summary": path, "description": ""}},
        {"key": "file", "value": {"path": path, "encoding": "base64", "content": content}},
    )
    return "\n".join(map(json.dumps, lines)).encode()


async def load(endpoint: str, token: str, user: str, clients: int, seconds: float) -> Tally:
    """All clients at once."""
    tally = Tally()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    headers = {"Authorization": f"Bearer {token}"}
    options = {"base_url": endpoint, "headers": headers, "limits": limits, "timeout": TIMEOUT}
    async with httpx.AsyncClient(**options) as http:
        until = time.monotonic() + seconds
        await asyncio.gather(*(client(http, user, seed, until, tally) for seed in range(clients)))
    return tally


def main() -> None:
    """Load a hub and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    token = os.environ["HF_TOKEN"]
    user = prepare(options.endpoint, token)
    began = time.monotonic()
    tally = asyncio.run(load(options.endpoint, token, user, options.clients, options.seconds))
    answered = sum(tally.requests.values())
    every = [second for found in tally.seconds.values() for second in found]
    result = {
        "clients": options.clients,
        "requests": answered,
        "requests_per_second": answered / (time.monotonic() - began),
        "median_seconds": {kind: statistics.median(found) for kind, found in sorted(tally.seconds.items())},
        "p95_seconds": statistics.quantiles(every, n=20)[-1] if len(every) > 1 else None,
        "limited": tally.limited,
        "wrong_bytes": tally.wrong,
        "errors": dict(tally.errors),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
