"""Small random models of `transformers` to be compared with."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "initializer_range": 0.2,  # large enough that a wrong angle, norm or head shows in the logits
}


def random_llama(**fields: object) -> LlamaForCausalLM:
    """A `LlamaForCausalLM` of a fixed seed, norm weights included."""
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**SMALL | fields)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def write_llama(directory: Path, dtype: torch.dtype = torch.float32, **fields: object) -> LlamaForCausalLM:
    """Save `random_llama` to `directory` and return it."""
    model = random_llama(**fields).to(dtype)
    model.save_pretrained(directory)
    return model
