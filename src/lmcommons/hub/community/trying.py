"""Trying a model in the browser: the hub asks the server that its operator named for it, and passes the answer on.

The server speaks OpenAI's API (https://platform.openai.com/docs/api-reference): `lmc serve`, vLLM and others. What is
asked and answered is bounded, and so is how much is asked at a time. When whoever asked is gone, the connection to the
server is closed, which ends the work there.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, Busy, EntryNotFound, Forbidden, HubError, NotFound
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.git import GitRepository

PROMPT_LIMIT = 8_000  # characters
TOKENS_LIMIT = 1_024
ANSWER_LIMIT = 200_000  # characters that are read of an answer, with what the protocol adds
ERROR_LIMIT = 4_000  # bytes that are read of a refusal
TIME_LIMIT = 120.0  # seconds of one answer
CONNECT_LIMIT = 5.0  # seconds
AT_A_TIME = 8  # answers in one process
SEED_LIMIT = 2**31
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_CONFIG, CONFIG_LIMIT = "tokenizer_config.json", 4 << 20  # bytes

Mode = Literal["chat", "text"]


class ServerFailed(HubError):  # noqa: N818 - as all HubErrors
    """The model's server does not answer as it should."""

    status = 502


@dataclass(frozen=True)
class Question:
    """A prompt and how the answer is decoded; without a `seed` each answer is another one."""

    prompt: str
    mode: Mode = "chat"
    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 256
    seed: int | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> "Question":
        """The question of a form; fields that are not there are as above.

        Raises:
            BadRequest: no prompt or too long a one, or a number that cannot be.
        """
        prompt, mode = fields.get("prompt", ""), fields.get("mode", cls.mode)
        if not prompt.strip() or len(prompt) > PROMPT_LIMIT or "\0" in prompt:
            raise BadRequest(
                "A prompt has 1 to {limit:,} characters; this one has {count:,}",
                limit=PROMPT_LIMIT,
                count=len(prompt.strip()),
            )
        if mode not in ("chat", "text"):
            raise BadRequest("mode={mode}: one of chat, text", mode=mode[:20])
        seed = fields.get("seed", "").strip()
        return cls(
            prompt,
            "chat" if mode == "chat" else "text",
            _number(fields, "temperature", 0, 2, cls.temperature),
            _number(fields, "top_p", 0.01, 1, cls.top_p),
            int(_number(fields, "max_tokens", 1, TOKENS_LIMIT, cls.max_tokens)),
            int(_number(fields, "seed", 0, SEED_LIMIT - 1, 0)) if seed else None,
        )

    def body(self, model: str) -> dict[str, Any]:
        """The request's body, for the server's name of the model."""
        asked = {"messages": [{"role": "user", "content": self.prompt}]}
        return {
            "model": model,
            **(asked if self.mode == "chat" else {"prompt": self.prompt}),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            **({} if self.seed is None else {"seed": self.seed}),
            "stream": True,
        }


class Trials:
    """The models of a hub that can be tried, and the answers that are on their way."""

    def __init__(self, endpoints: Mapping[str, str], token: str | None) -> None:
        """`endpoints`: the address of a server by a model's `namespace/name`; `token` is sent to all of them."""
        self._endpoints = {name.lower(): address for name, address in endpoints.items()}
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._asking: set[int] = set()

    def can_try(self, repository: Repository) -> bool:
        """Whether there is a server for the model."""
        return repository.type is RepositoryType.MODEL and repository.full_name.lower() in self._endpoints

    async def answer(self, actor: Actor, repository: Repository, question: Question) -> AsyncGenerator[str]:
        """The answer, piece by piece as it is made.

        Raises:
            Unauthorized, Forbidden, GatedRepository, RepositoryNotFound: the actor may not try the model.
            NotFound: there is no server for it. Busy: too many ask, or the actor does already.
            ServerFailed: the server does not answer, refuses, or takes too long.
        """
        if not self.can_try(repository):
            raise NotFound(
                "No server is named for {repository}; it cannot be tried here", repository=repository.full_name
            )
        require(actor, Action.READ, repository)
        if actor.account_id is None:
            raise Forbidden("Sign in to try a model")
        address = self._endpoints[repository.full_name.lower()]
        with self._turn(actor.account_id):
            limits = httpx.Timeout(TIME_LIMIT, connect=CONNECT_LIMIT)
            client = httpx.AsyncClient(base_url=address, headers=self._headers, timeout=limits, trust_env=False)
            try:
                async with client, asyncio.timeout(TIME_LIMIT), aclosing(_ask(client, repository, question)) as pieces:
                    async for piece in pieces:
                        yield piece
            except TimeoutError as error:
                raise ServerFailed(
                    "The answer took longer than {limit:.0f} seconds and was cut off", limit=TIME_LIMIT
                ) from error
            except httpx.HTTPError as error:
                raise ServerFailed("The model's server does not answer; tell whoever runs this hub") from error

    @contextmanager
    def _turn(self, account_id: int) -> Iterator[None]:
        if account_id in self._asking:
            raise Busy("You are asking already; wait for that answer, or stop it", seconds=5)
        if len(self._asking) >= AT_A_TIME:
            raise Busy("{count} answers are being written already; try again shortly", count=AT_A_TIME, seconds=10)
        self._asking.add(account_id)
        try:
            yield
        finally:
            self._asking.discard(account_id)


def usual_mode(repository: Repository, git: GitRepository, contents: Contents) -> Mode:
    """How a model is asked where nobody says: as in a chat, if its default branch has a template for that."""
    entries = {entry.path: entry for entry in git.entries(git.resolve(git.default_branch)) if entry.type == "file"}
    if any(name in entries for name in TEMPLATE_FILES):
        return "chat"
    with suppress(EntryNotFound):  # its content is not here
        if config := entries.get(TOKENIZER_CONFIG):
            with contents.open(repository, config) as file:
                return "chat" if b'"chat_template"' in file.read(CONFIG_LIMIT) else "text"
    return "text"


async def _ask(client: httpx.AsyncClient, repository: Repository, question: Question) -> AsyncGenerator[str]:
    path = "chat/completions" if question.mode == "chat" else "completions"
    body = question.body(await _model_name(client, repository))
    async with client.stream("POST", path, json=body) as response:
        if response.status_code != httpx.codes.OK:
            raise await _refusal(response)
        read = 0
        async for line in response.aiter_lines():
            read += len(line)
            if read > ANSWER_LIMIT:
                raise ServerFailed("The answer is too long and was cut off")
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if data == "[DONE]":
                return
            if data and (piece := _piece(data)):
                yield piece


async def _model_name(client: httpx.AsyncClient, repository: Repository) -> str:
    """What the server calls the model: by its full name where it knows that, else the first that it has."""
    async with client.stream("GET", "models") as response:
        if response.status_code != httpx.codes.OK:
            raise await _refusal(response)
        content = await _beginning(response, ANSWER_LIMIT)
    try:
        names = [str(model["id"]) for model in json.loads(content)["data"]]
    except (ValueError, LookupError, TypeError) as error:
        raise ServerFailed("The model's server does not say which models it has") from error
    if not names:
        raise ServerFailed("The model's server has no model")
    return repository.full_name if repository.full_name in names else names[0]


def _piece(data: str) -> str:
    """The text in one event of a stream.

    Raises:
        ServerFailed: it tells of an error, or makes no sense.
    """
    try:
        event = json.loads(data)
        if "error" in event:
            raise ServerFailed("The model's server failed: {reason}", reason=_told(event))
        choices = event["choices"]
        if not choices:
            return ""
        text = choices[0]["delta"].get("content") if "delta" in choices[0] else choices[0].get("text")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServerFailed("The model's server sends what is no answer") from error
    return text if isinstance(text, str) else ""


async def _refusal(response: httpx.Response) -> HubError:
    """What a server that refused says; a request that was wrong is the asker's to mend."""
    content = await _beginning(response, ERROR_LIMIT)
    try:
        told = _told(json.loads(content))
    except ValueError:
        told = ""
    if response.status_code == httpx.codes.BAD_REQUEST and told:
        return BadRequest("The model's server refuses this: {reason}", reason=told)
    return ServerFailed(
        "The model's server answers with status {status}; tell whoever runs this hub",
        status=response.status_code,
    )


def _told(body: Any) -> str:
    error = body.get("error", "") if isinstance(body, dict) else ""
    return str(error.get("message", "") if isinstance(error, dict) else error)[:ERROR_LIMIT]


async def _beginning(response: httpx.Response, limit: int) -> bytes:
    content = bytearray()
    async for block in response.aiter_bytes():
        content += block
        if len(content) >= limit:
            break
    return bytes(content[:limit])


def _number(fields: Mapping[str, str], name: str, least: float, most: float, default: float) -> float:
    text = fields.get(name, "").strip()
    try:
        value = float(text) if text else float(default)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise BadRequest(
            "{name}={text}: a number from {least} to {most}", name=name, text=text[:20], least=least, most=most
        )
    return value
