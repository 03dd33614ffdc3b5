"""The routes: /v1/models, /v1/completions, /v1/chat/completions, /health and /metrics."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmcommons import __version__
from lmcommons.errors import CommandError, RequestError
from lmcommons.generation import Sequence
from lmcommons.serving import errors
from lmcommons.serving.engine import Engine, EngineBusyError, EngineStoppedError, Work
from lmcommons.serving.errors import ApiError
from lmcommons.serving.metrics import Metrics
from lmcommons.serving.replies import ChatReply, CompletionReply, Continuation, Envelope, Reply, event
from lmcommons.serving.requests import MAX_CHOICES, ChatRequest, CompletionRequest, GenerationRequest
from lmcommons.tokenizer import Tokenizer

MAX_BODY = 8 << 20  # bytes of a request
LEGACY_MAX_TOKENS = 16  # what /v1/completions generates when not told


def create_app(engine: Engine, tokenizer: Tokenizer, name: str, api_key: str | None = None) -> FastAPI:
    """The application that serves `engine`'s model as `name`.

    With `api_key` every request under /v1 needs `Authorization: Bearer KEY`; /health and /metrics never do.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.stop)

    app = FastAPI(title="LM Commons", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(LimitBody)
    app.add_middleware(CountRequests, metrics=engine.metrics)
    app.add_exception_handler(ApiError, errors.on_api_error)
    app.add_exception_handler(HTTPException, errors.on_http_error)
    app.add_exception_handler(RequestValidationError, errors.on_validation_error)
    created = int(time.time())

    def allow(request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if api_key is not None and not hmac.compare_digest(given.encode(), api_key.encode()):
            message = "Incorrect API key provided." if given else "You didn't provide an API key."
            raise ApiError(401, f"{message} Send it as 'Authorization: Bearer KEY'.", code="invalid_api_key")

    def known(model: str) -> None:
        if model != name:
            message = f"The model '{model}' does not exist; this server has '{name}'."
            raise ApiError(404, message, param="model", code="model_not_found")

    guarded = [Depends(allow)]
    card = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "lmcommons",
        "max_model_len": engine.batch.max_length,
    }

    @app.get("/v1/models", dependencies=guarded)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{model:path}", dependencies=guarded)
    async def model(model: str) -> dict[str, Any]:
        known(model)
        return card

    @app.post("/v1/completions", dependencies=guarded, response_model=None)
    async def completions(request: Request, body: Annotated[CompletionRequest, Body()]) -> Response:
        known(body.model)
        return await respond(request, body, *complete(tokenizer, body))

    @app.post("/v1/chat/completions", dependencies=guarded, response_model=None)
    async def chat(request: Request, body: Annotated[ChatRequest, Body()]) -> Response:
        known(body.model)
        return await respond(request, body, *converse(tokenizer, body, engine.batch.max_length))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(engine.metrics.render(), media_type="text/plain; version=0.0.4")

    async def respond(request: Request, body: GenerationRequest, sequences: list[Sequence], reply: Reply) -> Response:
        envelope = Envelope(reply, name, sum(len(sequence.prompt) for sequence in sequences[:: body.choices]))
        work = submit(engine, sequences, reply.param)
        if body.stream:
            return EventStream(chunks(work, reply, envelope, body.include_usage), work)
        try:
            results = await unless_gone(request, collect(work))
        finally:
            work.cancel()
        choices = [
            reply.choice(index, sequence, result)
            for index, (sequence, result) in enumerate(zip(sequences, results, strict=True))
        ]
        return JSONResponse(envelope.response(choices, sequences))

    return app


def complete(tokenizer: Tokenizer, body: CompletionRequest) -> tuple[list[Sequence], CompletionReply]:
    """The sequences that a completion request asks for, and how to write them."""
    if len(body.prompt) * body.choices > MAX_CHOICES:
        raise ApiError(400, f"Invalid 'n': at most {MAX_CHOICES} completions a request, prompts times n", param="n")
    if body.best_of not in (None, body.choices):
        raise ApiError(400, "Invalid 'best_of': only the value of n is supported by this server", param="best_of")
    limit = LEGACY_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    describe = bool(body.echo) and body.logprobs is not None
    echoes: list[str] = []
    sequences: list[Sequence] = []
    for prompt in body.prompt:
        if isinstance(prompt, str):
            tokens, echo = tokenizer.prompt(prompt), prompt
        else:
            try:
                tokens, echo = prompt, tokenizer.decode(prompt)
            except RequestError as error:
                raise ApiError(400, f"Invalid 'prompt': {error}", param="prompt") from error
        for choice in range(body.choices):
            sequences.append(Sequence(tokens, body.sampling(choice, limit, body.logprobs, describe)))
            echoes.append(echo)
    hidden = 1 if isinstance(body.prompt[0], str) else 0
    return sequences, CompletionReply(tokenizer, body.logprobs, echoes if body.echo else None, hidden)


def converse(tokenizer: Tokenizer, body: ChatRequest, context: int) -> tuple[list[Sequence], ChatReply]:
    """The sequences that a chat request asks for, and how to write them."""
    if tokenizer.chat_template is None:
        message = f"The model '{body.model}' has no chat template; use /v1/completions with a prompt."
        raise ApiError(400, message, param="messages", code="no_chat_template")
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "Invalid 'top_logprobs': needs 'logprobs': true", param="top_logprobs")
    messages = [{"role": message.role, "content": message.content} for message in body.messages]
    try:
        prompt = tokenizer.apply_chat_template(messages)
    except RequestError as error:
        raise ApiError(400, f"Invalid 'messages': {error}", param="messages") from error
    limit = body.max_completion_tokens or body.max_tokens or context
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    sequences = [Sequence(prompt, body.sampling(choice, limit, logprobs)) for choice in range(body.choices)]
    return sequences, ChatReply(tokenizer, bool(body.logprobs))


def submit(engine: Engine, sequences: list[Sequence], param: str) -> Work:
    """Hand the sequences to the engine, or say why not; `param` is the field that the prompts came in."""
    try:
        return engine.submit(sequences)
    except RequestError as error:
        longest = max(len(sequence.prompt) for sequence in sequences)
        code = "context_length_exceeded" if longest >= engine.batch.max_length else None
        raise ApiError(400, f"Invalid '{param}': {error}", param=param, code=code) from error
    except EngineBusyError as error:
        raise ApiError(
            503, "Too many requests are waiting; try again shortly.", code="overloaded", retry=True
        ) from error
    except EngineStoppedError as error:
        raise stopping() from error


def stopping() -> ApiError:
    """What clients are told while the server shuts down."""
    return ApiError(503, "The server is shutting down.", code="shutting_down", retry=True)


async def collect(work: Work) -> list[Continuation]:
    """All results of a request, in the order of its sequences."""
    results = [Continuation() for _ in work.sequences]
    try:
        async for place, delta in work:
            results[place].add(delta)
    except EngineStoppedError as error:
        raise stopping() from error
    except CommandError as error:
        raise ApiError(500, str(error)) from error
    return results


async def unless_gone(request: Request, job: Coroutine[Any, Any, list[Continuation]]) -> list[Continuation]:
    """The job's result, unless the client closes the connection first."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.create_task(job), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "The client closed the connection.")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


async def chunks(work: Work, reply: Reply, envelope: Envelope, include_usage: bool) -> AsyncIterator[str]:
    """The events of a stream: opening chunks, one chunk a step, usage where asked for, and [DONE]."""
    usage: dict[str, Any] = {"usage": None} if include_usage else {}
    for opening in reply.openings(len(work.sequences)):
        yield envelope.event([opening], **usage)
    try:
        async for index, delta in work:
            if delta.text or delta.tokens or delta.finish_reason:
                yield envelope.event([reply.chunk(index, work.sequences[index], delta)], **usage)
    except EngineStoppedError:
        yield event(stopping().body())
        return
    except CommandError as error:
        yield event(ApiError(500, str(error)).body())
        return
    if include_usage:
        yield envelope.event([], usage=envelope.usage(work.sequences))
    yield "data: [DONE]\n\n"


class CountRequests:
    """Middleware that counts requests by endpoint and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; count it when its response begins."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                endpoint = getattr(scope.get("route"), "path", "other")
                self._metrics.requests[endpoint, message["status"]] += 1
            await send(message)

        await self._app(scope, receive, counted)


class LimitBody:
    """Middleware that reads no more of a request than `MAX_BODY` bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; reading too much of its body is an HTTP error 413."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, f"The request is larger than {MAX_BODY} bytes.")
            return message

        await self._app(scope, limited, send)


class EventStream(StreamingResponse):
    """Server-sent events of a running request, which ends when the client goes."""

    def __init__(self, content: AsyncIterator[str], work: Work) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; whatever happens, the work ends here."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.cancel()
