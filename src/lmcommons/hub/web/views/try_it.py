"""Trying a model: a prompt, the decoding settings, and the answer as it is made, or in one page without a script."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import anyio.from_thread
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.community.trying import PROMPT_LIMIT, TOKENS_LIMIT, Question, usual_mode
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import HubError, NotFound
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page
from lmcommons.hub.web.language import language_of
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.visitors import Form, form_handler, read_form, refuse_others, visitor
from lmcommons.hub.words import Words, translated


class EventStream(StreamingResponse):
    """Server-sent events (HTML standard, 9.2); when the reader is gone, so is what they came from."""

    def __init__(self, events: AsyncGenerator[str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


def try_it(request: Request) -> Response:
    """The box for a prompt."""
    hub, repository, git = _tried(request)
    return _page(request, repository, git, {"mode": usual_mode(repository, git, hub.contents)})


def answer(request: Request, form: Form) -> Response:
    """The answer, whole."""
    hub, repository, git = _tried(request)
    try:
        text = anyio.from_thread.run(_whole, hub, request, repository, Question.parse(form))
    except HubError as error:
        return _page(request, repository, git, form, error=error)
    return _page(request, repository, git, form, answer=text)


async def stream(request: Request) -> Response:
    """The answer as it is made: events with a piece of `text` each, then `end`; or `failed` with the reason.

    The handler raises what a form's does (`form_handler`), and whatever keeps the answer from beginning.
    """
    form = await read_form(request)
    await run_in_threadpool(refuse_others, request, form, signed_in=True)
    hub, repository, _ = await run_in_threadpool(_tried, request)
    question = Question.parse(form)
    return EventStream(_events(request, hub.trials.answer(visitor(request), repository, question)))


async def _events(request: Request, pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    said = partial(translated, language=language_of(request))
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield _event("piece", text=piece)
                if request.app.state.ending.is_set():
                    yield _event("failed", message=said(Words("The hub is stopping; try again shortly")))
                    return
        yield _event("end")
    except HubError as error:
        yield _event("failed", message=said(error.message))


def _event(kind: str, **data: str) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def _whole(hub: Hub, request: Request, repository: Repository, question: Question) -> str:
    async with aclosing(hub.trials.answer(visitor(request), repository, question)) as pieces:
        return "".join([piece async for piece in pieces])


def _tried(request: Request) -> tuple[Hub, Repository, GitRepository]:
    """The model that the address names, for which there is a server and which the visitor may read."""
    hub, repository, git = repository_of(request, RepositoryType.MODEL, Action.READ)
    if not hub.trials.can_try(repository):
        raise NotFound(
            "No server is named for {repository}; whoever runs this hub can name one", repository=repository.full_name
        )
    return hub, repository, git


def _page(
    request: Request,
    repository: Repository,
    git: GitRepository,
    filled: Form,
    *,
    answer: str | None = None,
    error: HubError | None = None,
) -> Response:
    return form_page(
        request,
        "repository/try.html",
        error,
        section=RepositoryType.MODEL,
        repository=repository,
        branch=git.default_branch,
        filled=filled,
        default=Question,
        answer=answer,
        prompt_limit=PROMPT_LIMIT,
        tokens_limit=TOKENS_LIMIT,
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The page of a model, and what its script asks."""
    if kind is RepositoryType.MODEL:
        router.add_route(f"{base}/try", try_it)
        router.add_route(f"{base}/try", form_handler(answer), methods=["POST"])
        router.add_route(f"{base}/try/stream", stream, methods=["POST"])
