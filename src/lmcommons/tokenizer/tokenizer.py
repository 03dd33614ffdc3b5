"""A trained tokenizer: `load` one, then encode, decode and write conversations."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

import tiktoken
import tokenizers

from lmcommons.errors import RequestError
from lmcommons.files import read_json
from lmcommons.tokenizer.byte_level import GPT2_PATTERN, unspell

ENCODING_THREADS = os.cpu_count() or 1
NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # never assigned, free for internal use (Unicode §23.7)


class Tokenizer:
    """Byte-level BPE. Text never becomes a special token: `encode("<|endoftext|>")` spells it out.

    Attributes:
        vocab_size: number of token ids, the special ones included.
        bos_token_id: what a text begins with; for our own decoders' tokenizers the same token as `eos_token_id`.
        eos_token_id: what a text ends with: `<|endoftext|>`, id 0, for our own decoders' tokenizers.
        pad_token_id, cls_token_id, sep_token_id, mask_token_id: None where the tokenizer has no such token.
        prefix, suffix: the ids before and after a whole text (`frame`).
        sentinel_ids: `<extra_id_0>`, `<extra_id_1>` …, which stand for corrupted spans.
        stop_token_ids: the ids that end a generated text.
        special_tokens: name to id.
        chat_template: the Jinja template of conversations; None where the tokenizer has none.
    """

    def __init__(self, definition: dict[str, Any], configuration: dict[str, Any], chat_template: str | None) -> None:
        """Build from the content of `tokenizer.json`, of `tokenizer_config.json` and of the template's file."""
        added = {token["content"]: token["id"] for token in definition["added_tokens"]}
        self.special_tokens = {
            token["content"]: token["id"] for token in definition["added_tokens"] if token["special"]
        }
        ranks = {unspell(name): rank for name, rank in definition["model"]["vocab"].items() if name not in added}
        self._bytes = {rank: token for token, rank in ranks.items()}
        self._bytes |= {token_id: name.encode() for name, token_id in added.items()}
        self.vocab_size = max(self._bytes) + 1
        self.eos_token_id = self.special_tokens[_name(configuration["eos_token"])]
        self.bos_token_id = self.special_tokens[_name(configuration.get("bos_token") or configuration["eos_token"])]
        self.pad_token_id, self.cls_token_id, self.sep_token_id, self.mask_token_id = (
            self.special_tokens.get(_name(configuration[role])) if configuration.get(role) else None
            for role in ("pad_token", "cls_token", "sep_token", "mask_token")
        )
        self.sentinel_ids = _sentinels(self.special_tokens)
        self.prefix, self.suffix = _template(definition.get("post_processor")) or ([], [])
        # A model that goes on to write the user's next message has finished its own.
        self.stop_token_ids = [
            self.eos_token_id,
            *(self.special_tokens[name] for name in ("<|user|>",) if name in added),
        ]
        self.chat_template = chat_template or configuration.get("chat_template")
        self._engine = _engine(definition, ranks, all_special=len(added) == len(self.special_tokens))

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without a beginning or end token."""
        if isinstance(self._engine, tiktoken.Encoding):
            return self._engine.encode_ordinary(text)
        return list(self._engine.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts, in parallel."""
        if isinstance(self._engine, tiktoken.Encoding):
            return self._engine.encode_ordinary_batch(list(texts), num_threads=ENCODING_THREADS)
        return [list(found.ids) for found in self._engine.encode_batch(list(texts), add_special_tokens=False)]

    def required(self, role: Literal["pad", "cls", "sep", "mask"]) -> int:
        """The id of the special token of `role`.

        Raises:
            RequestError: there is none.
        """
        token_id: int | None = getattr(self, f"{role}_token_id")
        if token_id is None:
            raise RequestError(f"the tokenizer has no {role}_token; train one with a recipe of the model's own kind")
        return token_id

    def frame(self, ids: Sequence[int]) -> list[int]:
        """A whole text's ids with the special tokens around it, as `transformers` adds them: `[CLS] … [SEP]`."""
        return [*self.prefix, *ids, *self.suffix]

    def prompt(self, text: str) -> list[int]:
        """The ids of a text that is to be continued: what begins a text, and its own; never none."""
        return [*self.prefix, *self.encode(text)] or [self.bos_token_id]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD, special tokens their names.

        Raises:
            RequestError: an id that is not in the vocabulary.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for, which may be part of a character.

        Raises:
            RequestError: an id that is not in the vocabulary.
        """
        try:
            return self._bytes[token_id]
        except KeyError as error:
            raise RequestError(f"token id {token_id} is not in the vocabulary of {self.vocab_size} tokens") from error

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool = True) -> list[int]:
        """The ids of a conversation; a message is `{"role": "system" | "user" | "assistant", "content": text}`.

        Only the template makes special tokens: their names inside a message's content stay text.

        Raises:
            RequestError: there is no chat template, or it refuses the messages.
        """
        for place, message in enumerate(messages):
            if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
                raise RequestError(f"messages[{place}]: role and content must be text")
        special = re.compile("|".join(map(re.escape, sorted(self.special_tokens, key=len, reverse=True))))
        written = "".join(message["content"] for message in messages)
        guard = next((character for character in NONCHARACTERS if character not in written), None)
        if guard is None:
            raise RequestError("messages: the text holds every noncharacter from U+FDD0 to U+FDEF; remove one of them")
        guarded = [
            {**message, "content": special.sub(lambda found: guard.join(found[0]), message["content"])}
            for message in messages
        ]
        text = self._render(guarded, add_generation_prompt)
        ids: list[int] = []
        start = 0
        for found in special.finditer(text):
            ids += [*self.encode(text[start : found.start()].replace(guard, "")), self.special_tokens[found[0]]]
            start = found.end()
        return ids + self.encode(text[start:].replace(guard, ""))

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        if self.chat_template is None:
            raise RequestError("this tokenizer has no chat template (a recipe's tokenizer.chat_template makes one)")
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def raise_exception(message: str) -> NoReturn:
            raise jinja2.TemplateError(message)

        # What a chat template may rely on, as `transformers` has it.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            return environment.from_string(self.chat_template).render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self._bytes[self.bos_token_id].decode(),
                eos_token=self._bytes[self.eos_token_id].decode(),
            )
        except jinja2.TemplateError as error:
            raise RequestError(f"the chat template refuses the messages: {error}") from error


def load(directory: Path) -> Tokenizer:
    """Read `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja`.

    Raises:
        RequestError: the directory holds no tokenizer, or one that is not byte-level BPE.
    """
    file = directory / "tokenizer.json"
    for needed in (file, directory / "tokenizer_config.json"):
        if not needed.is_file():
            raise RequestError(f"{needed}: no such file; a tokenizer is tokenizer.json and tokenizer_config.json")
    template = directory / "chat_template.jinja"
    try:
        return Tokenizer(
            read_json(file),
            read_json(directory / "tokenizer_config.json"),
            template.read_text(encoding="utf-8") if template.is_file() else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{file}: not a byte-level BPE tokenizer with an end-of-text token ({error!r})") from error


def _engine(
    definition: dict[str, Any], ranks: dict[bytes, int], *, all_special: bool
) -> "tiktoken.Encoding | tokenizers.Tokenizer":
    """tiktoken, six times as fast as `tokenizers`, where it gives the same ids: for our own tokenizers always."""
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in definition["model"]["merges"]]
    merged = [ranks[unspell(left + right)] for left, right in merges]
    pattern = _pattern(definition["pre_tokenizer"])
    # tiktoken joins any two tokens whose union is a token, the lowest id first.
    same_merges = merged == sorted(merged) and len(set(merged)) + 256 == len(ranks)
    if pattern and same_merges and all_special and definition["normalizer"] is None:
        return tiktoken.Encoding("lmcommons", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    engine = tokenizers.Tokenizer.from_str(json.dumps(definition))
    engine.encode_special_tokens = True
    engine.no_truncation()
    engine.no_padding()
    return engine


def _pattern(pre_tokenizer: dict[str, Any]) -> str | None:
    """The one regular expression that the pre-tokenizer cuts by, or None where it does something else."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}:
            return GPT2_PATTERN
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
            ],
        }:
            return pattern
    return None


def _sentinels(special_tokens: dict[str, int]) -> list[int]:
    """The ids of `<extra_id_0>`, `<extra_id_1>` … (Raffel et al. 2020, §3.1.4)."""
    count = 0
    while f"<extra_id_{count}>" in special_tokens:
        count += 1
    return [special_tokens[f"<extra_id_{place}>"] for place in range(count)]


def _template(processor: dict[str, Any] | None) -> tuple[list[int], list[int]] | None:
    """The ids that a post-processor puts before and after a single text, or None where it has no template."""
    if processor is None:
        return None
    if processor["type"] == "Sequence":
        found = (_template(part) for part in processor["processors"])
        return next((template for template in found if template), None)
    if processor["type"] != "TemplateProcessing":
        return None
    before: list[int] = []
    after: list[int] = []
    side = before
    for piece in processor["single"]:
        if "Sequence" in piece:
            side = after
        else:
            side += processor["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return before, after


def _name(token: str | dict[str, Any]) -> str:
    """A special token's name; older configurations write a mapping."""
    return token if isinstance(token, str) else str(token["content"])
