"""Small random models of `transformers`, one of every family that writes text, and ours that are read from them."""

from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from lmcommons import model as models

VOCABULARY = 40
PROMPTS = [[5, 9, 12], [17, 3], [1, 1, 30, 31, 2, 8], [33]]
GROUPED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=0
        )
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**GROUPED)),
    "t5": lambda: T5ForConditionalGeneration(T5Config(**T5, decoder_start_token_id=0)),
    "t5 1.1": lambda: T5ForConditionalGeneration(
        T5Config(**T5, decoder_start_token_id=0, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
    "marian": lambda: MarianMTModel(
        MarianConfig(
            vocab_size=VOCABULARY,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=128,
            eos_token_id=7,
            pad_token_id=39,
            decoder_start_token_id=39,
            forced_eos_token_id=None,
        )
    ),
    "xlnet": lambda: XLNetLMHeadModel(XLNetConfig(vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=4, d_inner=64)),
}
PAIR = tuple[models.Model, PreTrainedModel]


class Tokens:
    """A vocabulary of 40 letters with the given stop tokens."""

    vocab_size = VOCABULARY

    def __init__(self, *stops: int) -> None:
        self.stop_token_ids = stops

    def token_bytes(self, token_id: int) -> bytes:
        """Letters of the alphabet from `A` on."""
        return bytes([65 + token_id])


def pair(family: str, directory: Path, *, seed: int = 0) -> PAIR:
    """Ours and that of `transformers` with the same weights, spread so that the choices are clear."""
    torch.manual_seed(seed)
    reference = MODELS[family]().eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if parameter.dim() > 1 and not (family == "marian" and "embed_positions" in name):
                parameter.normal_(std=0.3)
    reference.save_pretrained(directory)
    reference.generation_config.bos_token_id = reference.generation_config.eos_token_id = None
    reference.set_attn_implementation("eager")
    return models.load(directory), reference


def padded(reference: PreTrainedModel, prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """Prompts as `transformers` reads them together: on the left of a decoder, on the right of an encoder."""
    longest = max(map(len, prompts))
    left = not reference.config.is_encoder_decoder
    rows = [
        [0] * ((longest - len(each)) * left) + each + [0] * ((longest - len(each)) * (not left)) for each in prompts
    ]
    real = [[1] * len(each) for each in prompts]
    mask = [[0] * ((longest - len(each)) * left) + each + [0] * ((longest - len(each)) * (not left)) for each in real]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}
