"""Small random encoder-decoders of `transformers` to be compared with."""

from pathlib import Path

import torch
from transformers import MarianConfig, MarianMTModel, T5Config, T5ForConditionalGeneration

VOCABULARY = 89
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 80,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
MARIAN = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80,
    "max_position_embeddings": 64,
    "eos_token_id": 0,
    "pad_token_id": VOCABULARY - 1,
    "decoder_start_token_id": 5,  # not the padding, whose embedding gets no gradient there
    "forced_eos_token_id": None,
}

# one entry for each thing that a configuration of these families can say
SHAPES: dict[str, dict[str, object]] = {
    "t5 1.0": {"family": "t5"},
    "t5 1.1": {"family": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "t5 1.1, tied": {"family": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "tied": True},
    "t5 gated-silu, more layers and wider heads": {
        "family": "t5",
        "feed_forward_proj": "gated-silu",
        "num_layers": 1,
        "num_decoder_layers": 3,
        "num_heads": 3,
        "d_kv": 20,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "layer_norm_epsilon": 1e-4,
    },
    "marian": {"family": "marian", "activation_function": "swish", "scale_embedding": True},
    "marian, as the paper": {"family": "marian", "activation_function": "relu", "encoder_layers": 3},
    "marian, shallow decoder": {"family": "marian", "decoder_layers": 1},
}
Reference = T5ForConditionalGeneration | MarianMTModel


def random_reference(name: str) -> Reference:
    """The model of `SHAPES[name]` of a fixed seed, with every norm, bias and weight away from its initial value."""
    fields = dict(SHAPES[name])
    torch.manual_seed(3)
    if fields.pop("family") == "t5":
        tied = fields.get("tie_word_embeddings", True) or fields.pop("tied", False)
        model: Reference = T5ForConditionalGeneration(T5Config(**T5 | fields))
        if not tied:  # transformers 5 ties it in any case, until weights that differ are loaded
            model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCABULARY, model.config.d_model))
    else:
        model = MarianMTModel(MarianConfig(**MARIAN | fields))
        model.final_logits_bias.normal_()
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if "embed_positions" in part:
                continue
            if "norm" in part and part.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=1.0 if "relative" in part else 0.15)
    return model.eval()


def write_reference(directory: Path, name: str) -> Reference:
    """Save `random_reference` to `directory` and return it."""
    model = random_reference(name)
    model.save_pretrained(directory)
    return model
