"""A model with its own tokenizer, ready for a task, by the name that a command was given."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import BatchEncoding, PreTrainedTokenizerBase

from lmcommons.client import model_directory
from lmcommons.errors import RequestError
from lmcommons.generation import foreign_tokenizer
from lmcommons.generation.loading import Device, Precision, commands, load_model, wrong_kind
from lmcommons.generation.rows import longest_context
from lmcommons.model import Model, ModelConfig

NO_TEXTS = "there are no texts: give at least one"


class TextError(RequestError):
    """One of several texts cannot be read; `place` says which, counted from 0."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class Loaded:
    """A model and its tokenizer; `name` is what the user calls it."""

    name: str
    model: Model
    tokenizer: PreTrainedTokenizerBase

    @property
    def config(self) -> ModelConfig:
        """What the model is."""
        return self.model.config

    @property
    def limit(self) -> int | None:
        """The most tokens that the model reads at once; None: any number."""
        return longest_context(self.config)

    @property
    def has_segments(self) -> bool:
        """Whether the model tells the texts of a pair apart by `token_types`."""
        return self.config.type_vocab_size > 0 or self.config.kind == "permutation"

    def require(self, command: str) -> None:
        """Refuse a model that `command` is not for.

        Raises:
            RequestError: one line that names the command that is right.
        """
        if command not in commands(self.config):
            raise wrong_kind(self.name, self.config, f"is not for `{command}`")

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> BatchEncoding:
        """The tokens of each text (with its pair), special ones included, as the tokenizer gives them.

        Raises:
            RequestError: there are no texts.
            TextError: a text is empty, or longer than the model reads.
        """
        if not texts:
            raise RequestError(NO_TEXTS)
        for place, text in enumerate(texts):
            if not text.strip():
                raise TextError(place, "the text is empty")
        found: BatchEncoding = self.tokenizer(list(texts), None if pairs is None else list(pairs), verbose=False)
        for place, tokens in enumerate(found["input_ids"]):
            self.check_length(place, len(tokens))
        return found

    def check_length(self, place: int, length: int) -> None:
        """Refuse the text at `place` if its `length` tokens are none, or more than the model reads.

        Raises:
            TextError: it is so.
        """
        if length == 0:
            raise TextError(place, "the text has no character that the tokenizer knows")
        if self.limit is not None and length > self.limit:
            raise TextError(place, f"the text has {length} tokens and the model reads {self.limit} at once: shorten it")


def load(name: str, device: Device = "auto", precision: Precision = "auto") -> Loaded:
    """Open a directory or `namespace/name[@revision]`; the options are those of `generation.loading.load`.

    Raises:
        RequestError: there is no such model or device, it is not one that we compute exactly, its tokenizer cannot be
            read, or has tokens that the model does not know.
        CommandError: the hub cannot be reached.
    """
    directory = model_directory(name)
    model = load_model(directory, device, precision)
    tokenizer = foreign_tokenizer.read(directory)
    last = max(tokenizer.get_vocab().values())
    if last >= model.config.vocab_size:
        raise RequestError(
            f"{name}: the tokenizer has a token {last} and the model only {model.config.vocab_size} tokens"
        )
    return Loaded(name, model, tokenizer)
