"""How likely a model finds a text."""

import torch
from torch import Tensor

from lmcommons.errors import CommandError, RequestError
from lmcommons.generation.rows import beginning, longest_context
from lmcommons.model import Decoder, EncoderDecoder, Model

TOKENS_AT_ONCE = 512  # whose logits are held together


@torch.inference_mode()
def log_probabilities(model: Model, prompt: list[int], tokens: list[int]) -> list[float]:
    """The log-probability in nats of each of `tokens` after a prompt: what a decoder goes on from, or the source.

    Raises:
        RequestError: there are more tokens than the model has positions, or unknown ones; or the model is neither a
            decoder nor an encoder-decoder, which alone give a text a probability token by token.
        CommandError: the model's weights are damaged.
    """
    config, bound = model.config, longest_context(model.config)
    start = beginning(config, prompt)
    read = [*start, *tokens][:-1]
    for side in (prompt, read):
        if bound is not None and len(side) > bound:
            raise RequestError(f"the text has {len(side)} tokens and the model's context is {bound} tokens")
    wrong = next((token for token in (*prompt, *tokens) if token >= config.vocab_size), None)
    if wrong is not None:
        raise RequestError(f"the text has token {wrong}; the model knows {config.vocab_size}")
    if not tokens:
        return []
    device = model.embedding.device
    following = torch.tensor([read], device=device)
    states: Tensor
    match model:
        case Decoder():
            states = model.hidden(following)[0, len(start) - 1 :]
        case EncoderDecoder():
            states = model.hidden(torch.tensor([prompt], device=device), following)[0]
        case _:
            raise RequestError(f"a model of kind {config.kind} does not read a text token by token; a decoder does")
    found: list[float] = []
    for part in range(0, len(tokens), TOKENS_AT_ONCE):
        scores = model.logits(states[part : part + TOKENS_AT_ONCE]).log_softmax(-1)
        wanted = torch.tensor(tokens[part : part + TOKENS_AT_ONCE], device=device)
        found += scores.gather(1, wanted[:, None])[:, 0].tolist()
    if any(value != value for value in found):
        raise CommandError("the model computes values that are not numbers: its weights are damaged")
    return found
