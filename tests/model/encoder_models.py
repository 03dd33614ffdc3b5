"""Small random encoders and XLNets of `transformers` to be compared with, and inputs for them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedModel, XLNetConfig

VOCABULARY = 83
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
XLNET = {"vocab_size": VOCABULARY, "d_model": 48, "d_inner": 80, "n_layer": 2, "n_head": 4, "use_mems_eval": False}


def random_weights(model: PreTrainedModel) -> PreTrainedModel:
    """The model with every weight, bias and norm drawn anew from a fixed seed, large enough for a mistake to show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.2)
    return model.eval()


def write_bert(directory: Path, architecture: type[PreTrainedModel], **fields: Any) -> PreTrainedModel:
    """Save a random model of a BERT class to `directory` and return it."""
    model = random_weights(architecture(BertConfig(**BERT | fields)))
    model.save_pretrained(directory)
    return model


def write_xlnet(directory: Path, architecture: type[PreTrainedModel], **fields: Any) -> PreTrainedModel:
    """Save a random model of an XLNet class to `directory` and return it."""
    model = random_weights(architecture(XLNetConfig(**XLNET | fields)))
    model.save_pretrained(directory)
    return model


def inputs(lengths: list[int], *, left: bool = False) -> dict[str, Tensor]:
    """Random tokens of two segments, in rows of `lengths` tokens that are padded on the right or on the left.

    Token 0 is not among them: it is BERT's padding, whose embedding gets no gradient in `transformers`.
    """
    generator, longest = torch.Generator().manual_seed(1), max(lengths)
    index = torch.arange(longest).flip(0) if left else torch.arange(longest)
    shape = (len(lengths), longest)
    return {
        "input_ids": torch.randint(1, VOCABULARY, shape, generator=generator),
        "attention_mask": (index < torch.tensor(lengths)[:, None]).long(),
        "token_type_ids": torch.randint(2, shape, generator=generator),
    }
