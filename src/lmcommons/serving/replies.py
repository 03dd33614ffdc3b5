"""What a client gets back, as OpenAI's API defines it: choices of completions and chats, whole or in chunks."""

import json
import time
import uuid
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Any, Protocol

from lmcommons.generation import Delta, FinishReason, Sequence, Token
from lmcommons.tokenizer import Tokenizer


@dataclass
class Continuation:
    """The deltas of one sequence, put together."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        """Append what a step gave."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.finish_reason = delta.finish_reason


class Reply(Protocol):
    """How an endpoint writes its results."""

    whole: str  # the object's name in a response
    part: str  # and in a stream
    prefix: str  # of the response's id
    param: str  # the request's field that the prompts come in

    def openings(self, count: int) -> list[dict[str, Any]]:
        """What a stream of `count` choices begins with, before anything has been generated."""

    def chunk(self, index: int, sequence: Sequence, delta: Delta) -> dict[str, Any]:
        """A choice in a stream."""

    def choice(self, index: int, sequence: Sequence, result: Continuation) -> dict[str, Any]:
        """A choice in a response."""


class CompletionReply:
    """Choices of /v1/completions; `echoes` are the prompts' texts to put before each continuation, or None.

    `hidden` counts the prompt tokens that the server itself put before the text.
    """

    whole, part, prefix, param = "text_completion", "text_completion", "cmpl", "prompt"

    def __init__(self, tokenizer: Tokenizer, logprobs: int | None, echoes: list[str] | None, hidden: int) -> None:
        self._tokenizer, self._logprobs, self._echoes, self._hidden = tokenizer, logprobs, echoes, hidden
        self._begun: set[int] = set()

    def openings(self, count: int) -> list[dict[str, Any]]:
        """Nothing: a prompt that is echoed stands in the first chunk of its choice."""
        return []

    def chunk(self, index: int, sequence: Sequence, delta: Delta) -> dict[str, Any]:
        """The text of one step, with the prompt before the first."""
        first = index not in self._begun
        self._begun.add(index)
        return self._write(index, sequence, delta.text, list(delta.tokens), delta.finish_reason, echo=first)

    def choice(self, index: int, sequence: Sequence, result: Continuation) -> dict[str, Any]:
        """The whole text."""
        return self._write(index, sequence, result.text, result.tokens, result.finish_reason, echo=True)

    def _write(
        self, index: int, sequence: Sequence, text: str, tokens: list[Token], reason: FinishReason | None, *, echo: bool
    ) -> dict[str, Any]:
        echoed = self._echoes[index] if self._echoes is not None else ""
        before = sequence.prompt_tokens[self._hidden :] if echo else []
        logprobs = None
        if self._logprobs is not None:
            hidden_text = before[0].offset if before else 0
            offsets = [token.offset - hidden_text for token in before] + [
                token.offset + len(echoed) for token in tokens
            ]
            logprobs = {
                "tokens": [self._name(token.id) for token in (*before, *tokens)],
                "token_logprobs": [token.logprob for token in (*before, *tokens)],
                "top_logprobs": [self._alternatives(token) for token in (*before, *tokens)] if self._logprobs else None,
                "text_offset": offsets,
            }
        return {
            "text": echoed + text if echo else text,
            "index": index,
            "logprobs": logprobs,
            "finish_reason": reason,
        }

    def _alternatives(self, token: Token) -> dict[str, float] | None:
        if token.logprob is None:
            return None
        return {self._name(other): logprob for other, logprob in token.alternatives} | {
            self._name(token.id): token.logprob
        }

    def _name(self, token_id: int) -> str:
        """The token's text; where its bytes are no text of their own, OpenAI's spelling of them."""
        content = self._tokenizer.token_bytes(token_id)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


class ChatReply:
    """Choices of /v1/chat/completions."""

    whole, part, prefix, param = "chat.completion", "chat.completion.chunk", "chatcmpl", "messages"

    def __init__(self, tokenizer: Tokenizer, logprobs: bool) -> None:
        self._tokenizer, self._logprobs = tokenizer, logprobs

    def openings(self, count: int) -> list[dict[str, Any]]:
        """Say who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for index in range(count)]

    def chunk(self, index: int, sequence: Sequence, delta: Delta) -> dict[str, Any]:
        """The text of one step."""
        content = {"content": delta.text} if delta.text or delta.tokens else {}
        logprobs = self._describe(delta.tokens)
        return {"index": index, "delta": content, "logprobs": logprobs, "finish_reason": delta.finish_reason}

    def choice(self, index: int, sequence: Sequence, result: Continuation) -> dict[str, Any]:
        """The whole message."""
        message = {"role": "assistant", "content": result.text, "refusal": None}
        logprobs = self._describe(result.tokens)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": result.finish_reason}

    def _describe(self, tokens: Ordered[Token]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        content = [
            self._token(token.id, token.logprob)
            | {"top_logprobs": [self._token(*other) for other in token.alternatives]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        content = self._tokenizer.token_bytes(token_id)
        return {"token": content.decode(errors="replace"), "bytes": list(content), "logprob": logprob}


class Envelope:
    """What all objects of one response share: id, time, model, usage."""

    def __init__(self, reply: Reply, model: str, prompt_tokens: int) -> None:
        self._reply, self._model, self._prompt_tokens = reply, model, prompt_tokens
        self._id, self._created = f"{reply.prefix}-{uuid.uuid4().hex}", int(time.time())

    def response(self, choices: list[dict[str, Any]], sequences: list[Sequence]) -> dict[str, Any]:
        """A whole response."""
        return self._object(self._reply.whole, choices) | {"usage": self.usage(sequences)}

    def event(self, choices: list[dict[str, Any]], **usage: dict[str, int] | None) -> str:
        """A chunk of a stream, as a server-sent event."""
        return event(self._object(self._reply.part, choices) | usage)

    def usage(self, sequences: list[Sequence]) -> dict[str, int]:
        """Tokens read and generated; a prompt that is continued several times is read once."""
        generated = sum(len(sequence.generated) for sequence in sequences)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": self._prompt_tokens + generated,
        }

    def _object(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": name,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def event(data: dict[str, Any]) -> str:
    """One server-sent event (WHATWG HTML, §9.2.6) of JSON data."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
