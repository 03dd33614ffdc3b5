"""How likely a model finds a text."""

import torch
from torch import Tensor

from lmcommons.errors import CommandError, RequestError
from lmcommons.generation.rows import beginning, longest_context
from lmcommons.model import Decoder, EncoderDecoder, Model, XLNet

TOKENS_AT_ONCE = 512  # whose logits are held together


@torch.inference_mode()
def log_probabilities(model: Model, prompt: list[int], tokens: list[int]) -> list[float]:
    """The log-probability in nats of each of `tokens` after a prompt: what a text goes on from, or the source.

    An XLNet predicts each token from those before it, which is one of the orders that it was trained on (Yang et al.
    2019, eq. 3). In writing it lets the tokens that it reads see one another, so that scores there differ.

    Raises:
        RequestError: there are more tokens than the model has positions, or unknown ones; a decoder or an
            encoder-decoder has no prompt; or the model is an encoder, which gives a text no probability.
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
    if not prompt and config.kind != "permutation":
        raise RequestError("there is nothing that the first token could follow: give a prompt")
    states: Tensor
    match model:
        case Decoder():
            states = model.hidden(torch.tensor([read], device=device))[0, len(start) - 1 :]
        case EncoderDecoder():
            states = model.hidden(torch.tensor([prompt], device=device), torch.tensor([read], device=device))[0]
        case XLNet():
            whole = torch.tensor([[*prompt, *tokens]], device=device)
            places = torch.arange(whole.shape[1], device=device)
            before = places < places[:, None]
            states = model.hidden(whole, visible=before[None], targets=places[None, len(prompt) :])[0]
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
