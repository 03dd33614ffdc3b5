"""Tokens per second of our generation beside `transformers` generate: same weights, same prompts, greedy, interleaved.

Ours is the batch that `lmc generate` and `lmc serve` run on. A random Llama of 42 million parameters continues prompts
of equal length, one and sixteen at a time; a rate counts new tokens over the whole call, the reading of the prompts
included. The contenders run in turn, again and again; a ratio is the median over these rounds, so that a machine that
is busy with other things slows all of them alike. In float32 both must give the same tokens.
"""

import argparse
import copy
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from lmcommons import environment
from lmcommons.files import write_json
from lmcommons.generation import Batch, SamplingParameters, Sequence
from lmcommons.model import Decoder, DecoderConfig
from lmcommons.model.interop import llama

RESULTS = Path(__file__).parent / "results" / "generation.json"
CONFIG = DecoderConfig(
    hidden_size=512,
    intermediate_size=1408,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=8,
    max_position_embeddings=1024,
    tie_word_embeddings=False,
    initializer_range=0.08,  # a random model of this spread has a clear favourite at each step
    vocab_size=16384,
    bos_token_id=0,
    eos_token_id=0,
)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PEER, OURS = "transformers", "lmcommons"
Run = Callable[[], list[list[int]]]


class EndlessVocabulary:
    """No token ends a text, so that every contender computes the same number of tokens."""

    vocab_size = CONFIG.vocab_size
    stop_token_ids = ()

    def token_bytes(self, token_id: int) -> bytes:
        """Any text: only tokens are compared."""
        return b"token "


def ours(decoder: Decoder, prompts: list[list[int]], new_tokens: int) -> Run:
    """Our batch, made once as a server makes it, and filled at each call."""
    batch = Batch(decoder, EndlessVocabulary(), max_rows=len(prompts), max_length=len(prompts[0]) + new_tokens)

    def run() -> list[list[int]]:
        sequences = [Sequence(prompt, SamplingParameters(max_tokens=new_tokens)) for prompt in prompts]
        waiting = deque(sequences)
        while waiting or batch.sequences:
            batch.admit(waiting)
            if batch.sequences:
                batch.step()
        return [sequence.generated for sequence in sequences]

    return run


def theirs(decoder: Decoder, dtype: torch.dtype, prompts: list[list[int]], new_tokens: int) -> Run:
    """`generate` of `transformers` on the same weights."""
    model = LlamaForCausalLM(LlamaConfig(**llama.config_to_transformers(decoder.config, torch.float32))).eval()
    model.load_state_dict(llama.to_transformers(decoder.state_dict(), decoder.config))
    model.to(dtype)
    model.generation_config.eos_token_id = None
    tokens = torch.tensor(prompts)
    mask = torch.ones_like(tokens)

    def run() -> list[list[int]]:
        found = model.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens, pad_token_id=0)
        return found[:, tokens.shape[1] :].tolist()

    return run


def contenders(prompts: list[list[int]], new_tokens: int) -> dict[str, Run]:
    """All of them, by name, with the same weights."""
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    runs = {f"{PEER} {name}": theirs(decoder, dtype, prompts, new_tokens) for name, dtype in PRECISIONS.items()}
    for name, dtype in PRECISIONS.items():
        converted = copy.deepcopy(decoder).to(dtype)
        converted.compute_dtype = dtype
        runs[f"{OURS} {name}"] = ours(converted, prompts, new_tokens)
    return runs


def measure(batch_size: int, prompt_tokens: int, new_tokens: int, rounds: int) -> dict[str, object]:
    """Rates of all contenders at one batch size, and their ratios to `transformers` in the same precision."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(1, CONFIG.vocab_size, (batch_size, prompt_tokens), generator=generator).tolist()
    runs = contenders(prompts, new_tokens)
    outputs = {name: run() for name, run in runs.items()}  # also the warm-up
    equal = outputs[f"{OURS} float32"] == outputs[f"{PEER} float32"]
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            rates[name].append(batch_size * new_tokens / (time.perf_counter() - started))
    ratios = {
        precision: statistics.median(
            mine / peer for mine, peer in zip(rates[f"{OURS} {precision}"], rates[f"{PEER} {precision}"], strict=True)
        )
        for precision in PRECISIONS
    }
    return {
        "batch_size": batch_size,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "tokens_per_second": {name: statistics.median(found) for name, found in rates.items()},
        "ratio": ratios,
        "equal_tokens_float32": equal,
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = [
        measure(batch_size, options.prompt_tokens, options.new_tokens, options.rounds)
        for batch_size in options.batch_sizes
    ]
    table = Table("contender", *(f"batch {size}: tokens/s" for size in options.batch_sizes))
    for name in results[0]["tokens_per_second"]:
        table.add_row(name, *(f"{result['tokens_per_second'][name]:,.0f}" for result in results))
    for precision in PRECISIONS:
        table.add_row(f"ratio {precision}", *(f"{result['ratio'][precision]:.2f}" for result in results))
    table.add_row("same tokens in float32", *("yes" if result["equal_tokens_float32"] else "NO" for result in results))
    Console().print(table)
    write_json(options.out, {"results": results, "environment": environment.describe()})


if __name__ == "__main__":
    main()
