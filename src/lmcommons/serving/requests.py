"""What a client may send, as OpenAI's API defines it; what this server does not do is refused, not ignored."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from lmcommons.generation import SamplingParameters

MAX_STOPS = 16
MAX_CHOICES = 128
MAX_PROMPTS = 128
MAX_ALTERNATIVES = 20


def _unsupported(value: Any) -> Any:
    if value in (None, 0, False, "", {}, [], "none", {"type": "text"}):
        return value
    raise PydanticCustomError("unsupported", "not supported by this server; leave it out")


def _encodable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("surrogate", "text with a lone surrogate is not Unicode")
    return text


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _prompts(value: Any) -> list[str] | list[list[int]]:
    """One prompt or several, text or token ids, as a list of prompts; none is the beginning of a document."""
    if value is None:
        return [""]
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and len(value) > 0:
        if all(type(each) is int for each in value):
            return [value]
        if len(value) > MAX_PROMPTS:
            raise PydanticCustomError("prompt", "at most {most} prompts a request", {"most": MAX_PROMPTS})
        if all(isinstance(each, str) for each in value):
            return [_encodable(each) for each in value]
        if all(isinstance(each, list) and each and all(type(token) is int for token in each) for each in value):
            return value
    raise PydanticCustomError(
        "prompt", "should be a text, a list of texts, a list of token ids, or a list of such lists"
    )


def _content(value: Any) -> str:
    """A message's content as one text: it comes as a text or as a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        parts = [part for part in value if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if len(texts) == len(value):
            return "".join(texts)
    raise PydanticCustomError("content", 'should be a text, or a list of parts like {"type": "text", "text": "…"}')


Text = Annotated[str, AfterValidator(_encodable)]
StopText = Annotated[str, Field(min_length=1), AfterValidator(_encodable)]
Unsupported = Annotated[Any, AfterValidator(_unsupported)]


class StreamOptions(BaseModel):
    """`include_usage`: a last chunk says how many tokens were used."""

    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against traffic analysis: OpenAI's clients may send it


class GenerationRequest(BaseModel):
    """What completions and chats share. `top_k` is not OpenAI's but common."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Annotated[list[StopText], Field(max_length=MAX_STOPS), BeforeValidator(_stops)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None

    presence_penalty: Unsupported = None
    frequency_penalty: Unsupported = None
    logit_bias: Unsupported = None

    @property
    def choices(self) -> int:
        """How many continuations of each prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(
        self, choice: int, max_tokens: int, logprobs: int | None, echo_logprobs: bool = False
    ) -> SamplingParameters:
        """The parameters of one continuation; the choices of one request differ in their seeds."""
        return SamplingParameters(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=None if self.seed is None else self.seed + choice,
            stop=tuple(self.stop or ()),
            logprobs=logprobs,
            echo_logprobs=echo_logprobs,
        )


class CompletionRequest(GenerationRequest):
    """POST /v1/completions. `max_tokens` is 16 unless said otherwise; 0 with `echo` only reads the prompt."""

    prompt: Annotated[list[str] | list[list[int]], BeforeValidator(_prompts)] = [""]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    suffix: Unsupported = None


class Message(BaseModel):
    """One message of a conversation; the model's chat template decides which roles it knows."""

    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, BeforeValidator(_content)]
    name: str | None = None
    refusal: Unsupported = None
    tool_calls: Unsupported = None


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions. Without a limit the reply may go on to the end of the context."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None

    response_format: Unsupported = None
    tools: Unsupported = None
    tool_choice: Unsupported = None
    functions: Unsupported = None
    function_call: Unsupported = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
