"""Texts that a model is writing, a row each, and what it keeps of them between steps: alike for every kind of model.

A row begins with a prompt. A decoder goes on from it. An encoder-decoder reads it whole, as its source, and what it
writes begins with its start token.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from lmcommons.errors import CommandError, RequestError
from lmcommons.generation.packing import PackedModel
from lmcommons.model import Decoder, EncoderDecoder, Memory, Model, ModelConfig, XLNet
from lmcommons.model.attention import Mask

BOUNDED = ("learned", "rotary", "sinusoidal")  # positions that a model was made for a number of


def beginning(config: ModelConfig, prompt: list[int]) -> list[int]:
    """What the generated tokens follow.

    Raises:
        RequestError: an encoder-decoder without a start token.
    """
    if config.kind != "encoder-decoder":
        return prompt
    if config.decoder_start_token_id is None:
        raise RequestError("the model's config.json has no decoder_start_token_id, which what it writes begins with")
    return [config.decoder_start_token_id]


def longest_context(config: ModelConfig) -> int | None:
    """The most tokens that the model's positions are made for; None where there is no such number."""
    return config.max_position_embeddings if config.positions in BOUNDED else None


class Rows(ABC):
    """Up to `max_rows` texts of up to `max_length` tokens, beginnings included.

    Rows that are in use are the first `count`. `max_length` None: as many tokens as the model was trained for.

    Raises:
        RequestError: `max_length` is None and the model does not say for how many, as XLNet.
    """

    count = 0

    def __init__(self, model: Model, max_rows: int, max_length: int | None = None) -> None:
        self.config = model.config
        self._bound = longest_context(model.config)
        wanted = max_length or model.config.max_position_embeddings
        if not wanted:
            raise RequestError(f"a model of kind {model.config.kind} reads texts of any length: say the longest one's")
        self.max_length = min(wanted, self._bound or wanted)
        self.device = model.embedding.device

    def room(self, prompt: list[int]) -> int:
        """How many tokens can follow a prompt.

        Raises:
            RequestError: the prompt is empty or longer than the context.
        """
        if not prompt:
            raise RequestError("the prompt has no tokens")
        context = self._bound if self.config.kind == "encoder-decoder" else self.max_length
        if context is not None and len(prompt) > context:
            raise RequestError(f"the prompt has {len(prompt)} tokens and the model's context is {context} tokens")
        return self.max_length - len(beginning(self.config, prompt))

    @abstractmethod
    def start(self, prompts: list[list[int]]) -> list[Tensor]:
        """Begin a row for each prompt.

        Returns the states of each that are known: [prompt, hidden] of a decoder, else [1, hidden]. From the last one
        the first token is read.
        """

    @abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Add one token to each row: [count] int64 -> the states that the next ones are read from, [count, hidden]."""

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Row i becomes what row `rows[i]` was; there are then as many rows as `rows` [n] int64 has entries."""

    @abstractmethod
    def _logits(self, states: Tensor) -> Tensor: ...

    def logits(self, states: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32.

        Raises:
            CommandError: they are not numbers.
        """
        logits = self._logits(states)
        if not torch.isfinite(logits).all():
            raise CommandError("the model computes values that are not numbers: its weights are damaged")
        return logits


class DecoderRows(Rows):
    """Rows of a decoder: keys and values of what it has read."""

    def __init__(self, model: Decoder, max_rows: int, max_length: int | None = None) -> None:
        super().__init__(model, max_rows, max_length)
        self._packed = PackedModel(model)
        self._cache = self._packed.new_cache(max_rows, self.max_length)

    def start(self, prompts: list[list[int]]) -> list[Tensor]:
        rows = self._cache.rows(self.count, self.count + len(prompts))
        rows.lengths.zero_()
        tokens = _right_padded(prompts).to(self.device)
        states = self._packed.model.hidden(tokens, cache=rows)
        rows.advance(torch.tensor([len(prompt) for prompt in prompts], device=self.device))
        self.count += len(prompts)
        return [state[: len(prompt)] for state, prompt in zip(states, prompts, strict=True)]

    def step(self, tokens: Tensor) -> Tensor:
        rows = self._cache.rows(0, self.count)
        states = self._packed.model.hidden(tokens[:, None], cache=rows)
        rows.advance(1)
        return states[:, -1]

    def select(self, rows: Tensor) -> None:
        self._cache.select(rows)
        self.count = len(rows)

    def _logits(self, states: Tensor) -> Tensor:
        return self._packed.logits(states)


class EncoderDecoderRows(Rows):
    """Rows of an encoder-decoder: what its encoder made of the prompts, and keys and values of what was written."""

    def __init__(self, model: EncoderDecoder, max_rows: int, max_length: int | None = None) -> None:
        super().__init__(model, max_rows, max_length)
        self._packed = PackedModel(model)
        self._cache = self._packed.new_cache(max_rows, self.max_length)
        self._memory: Memory | None = None
        self._prompts: list[list[int]] = []  # of each row

    def start(self, prompts: list[list[int]]) -> list[Tensor]:
        model = self._packed.model
        tokens = _right_padded(prompts).to(self.device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        real = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        memory = model.memory(model.encode(tokens, attention_mask=real), visible=real)
        rows = self._cache.rows(self.count, self.count + len(prompts))
        rows.lengths.zero_()
        first = torch.tensor([beginning(self.config, prompt) for prompt in prompts], device=self.device)
        states = model.decode(first, memory, cache=rows)
        rows.advance(1)
        self._memory = memory if self.count == 0 or self._memory is None else _joined(self._memory, memory)
        self._prompts = [*self._prompts, *prompts]
        self.count += len(prompts)
        return list(states)

    def step(self, tokens: Tensor) -> Tensor:
        assert self._memory is not None
        rows = self._cache.rows(0, self.count)
        states = self._packed.model.decode(tokens[:, None], self._memory, cache=rows)
        rows.advance(1)
        return states[:, -1]

    def select(self, rows: Tensor) -> None:
        assert self._memory is not None
        self._cache.select(rows)
        prompts = [self._prompts[row] for row in rows.tolist()]
        same = len(prompts) == self.count and all(map(lambda a, b: a is b, prompts, self._prompts))
        if not same:  # beams of one prompt that change places read the same
            self._memory = self._memory.rows(rows)
        self._prompts, self.count = prompts, len(rows)

    def _logits(self, states: Tensor) -> Tensor:
        return self._packed.logits(states)


class PermutationRows(Rows):
    """Rows of XLNet, which predicts the token after a text as it would any other (Yang et al. 2019, §2.3).

    A token's states depend on those after it. As in `transformers`, they are computed when the token is new and once
    more when the next one is known; then each layer keeps them as they are.
    """

    def __init__(self, model: XLNet, max_rows: int, max_length: int | None = None) -> None:
        super().__init__(model, max_rows, max_length)
        self._model = model
        # Rows end together: what each layer keeps of all tokens but the last is [rows, past, hidden], padded before.
        self._kept = [torch.empty(0) for _ in model.layers]
        self._lengths = torch.empty(0)
        self._last = torch.empty(0)

    def start(self, prompts: list[list[int]]) -> list[Tensor]:
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        longest = int(lengths.max())
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self.device)
        states, kept = self._predict(tokens, lengths, None)
        kept = [each[:, :-2] for each in kept]
        if self.count:
            past = max(longest - 1, self._kept[0].shape[1])
            both = zip(self._kept, kept, strict=True)
            kept = [torch.cat([F.pad(part, (0, 0, past - part.shape[1], 0)) for part in pair]) for pair in both]
            lengths, tokens = torch.cat((self._lengths, lengths)), torch.cat((self._last, tokens[:, -1:]))
        self._kept, self._lengths, self._last, self.count = kept, lengths, tokens[:, -1:], len(lengths)
        return list(states[:, None])

    def step(self, tokens: Tensor) -> Tensor:
        read = torch.cat((self._last, tokens[:, None]), 1)
        self._lengths, self._last = self._lengths + 1, tokens[:, None]
        states, kept = self._predict(read, self._lengths, self._kept)
        self._kept = [torch.cat((old, new[:, :1]), 1) for old, new in zip(self._kept, kept, strict=True)]
        return states

    def _predict(self, tokens: Tensor, lengths: Tensor, memory: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """The state of the token after rows of `lengths` [rows] that end with `tokens` [rows, n]; what layers read."""
        past = 0 if memory is None else memory[0].shape[1]
        length = tokens.shape[1]
        first = past + length - lengths[:, None]
        places = torch.arange(past + length + 1, device=self.device)
        visible = ((places >= first) & (places < past + length))[:, None].expand(-1, length + 1, -1)
        states: list[Tensor] = []
        asked = torch.full((len(tokens), 1), length, device=self.device)
        tokens = F.pad(tokens, (0, 1))  # what is predicted has a place, and is not read
        predicted = self._model.hidden(tokens, visible=visible, targets=asked, memory=memory, states=states)
        return predicted[:, 0], states[:-1]

    def select(self, rows: Tensor) -> None:
        self._kept = [each[rows] for each in self._kept]
        self._lengths, self._last, self.count = self._lengths[rows], self._last[rows], len(rows)

    def _logits(self, states: Tensor) -> Tensor:
        return self._model.logits(states)


def open_rows(model: Model, max_rows: int, max_length: int | None = None) -> Rows:
    """The rows of a model.

    Raises:
        RequestError: the model does not write text.
        CommandError: they do not fit into memory.
    """
    if model.config.task != "language-modelling":
        raise RequestError(f"a model for {model.config.task} has no head that predicts tokens: it cannot write text")
    match model:
        case Decoder():
            return DecoderRows(model, max_rows, max_length)
        case EncoderDecoder():
            return EncoderDecoderRows(model, max_rows, max_length)
        case XLNet():
            return PermutationRows(model, max_rows, max_length)
    raise RequestError("an encoder fills gaps and does not continue text; a decoder or an encoder-decoder does")


def _right_padded(texts: list[list[int]]) -> Tensor:
    return pad_sequence([torch.tensor(text) for text in texts], batch_first=True)


def _joined(first: Memory, second: Memory) -> Memory:
    """The rows of both, of sources of different lengths."""
    visible = [memory.mask.visible for memory in (first, second)]
    assert visible[0] is not None
    assert visible[1] is not None
    length = max(mask.shape[-1] for mask in visible if mask is not None)
    pairs = zip(first.keys_values, second.keys_values, strict=True)
    keys_values = [(_stacked(one[0], two[0], length), _stacked(one[1], two[1], length)) for one, two in pairs]
    widened = [F.pad(mask, (0, length - mask.shape[-1])) for mask in visible if mask is not None]
    return Memory(keys_values, Mask(visible=torch.cat(widened)))


def _stacked(first: Tensor, second: Tensor, length: int) -> Tensor:
    """Two [rows, kv_heads, source, head_dim] as one of `length` source tokens."""
    return torch.cat([F.pad(part, (0, 0, 0, length - part.shape[2])) for part in (first, second)])
