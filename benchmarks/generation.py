"""Tokens per second of our generation beside `transformers` generate: same weights, same prompts, greedy, interleaved.

Ours is the batch that `lmc generate` and `lmc serve` run on, and CTranslate2 with the model as we export it. A random
Llama of 42 million parameters continues prompts of equal length, one and sixteen at a time; a rate counts new tokens
over the whole call, the reading of the prompts included. The contenders run in turn, again and again; a ratio is the
median over these rounds, so that a machine that is busy with other things slows all of them alike. In float32 all must
give the same tokens.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import ctranslate2
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from lmcommons import environment, tokenizer
from lmcommons.files import write_json
from lmcommons.generation import Batch, SamplingParameters, Sequence
from lmcommons.model import Decoder, ModelConfig, save
from lmcommons.model.interop import ctranslate2 as export
from lmcommons.recipe import TokenizerRecipe

RESULTS = Path(__file__).parent / "results" / "generation.json"
CONFIG = ModelConfig(
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
PEER, OURS, EXPORTED = "transformers", "lmcommons", "lmcommons, exported to ctranslate2"
RATIOS = {  # each contender is compared with one of the peer
    f"{OURS} float32": f"{PEER} float32",
    f"{OURS} bfloat16": f"{PEER} bfloat16",
    f"{EXPORTED} float32": f"{PEER} bfloat16",
    f"{EXPORTED} int8": f"{PEER} bfloat16",
}
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


def theirs(directory: Path, dtype: torch.dtype, prompts: list[list[int]], new_tokens: int) -> Run:
    """`generate` of `transformers` on the same weights."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    model.generation_config.eos_token_id = None
    tokens = torch.tensor(prompts)
    mask = torch.ones_like(tokens)

    def run() -> list[list[int]]:
        found = model.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens, pad_token_id=0)
        return found[:, tokens.shape[1] :].tolist()

    return run


def exported(directory: Path, compute_type: str, prompts: list[list[int]], new_tokens: int) -> Run:
    """CTranslate2 on as many threads as torch."""
    generator = ctranslate2.Generator(
        str(directory), compute_type=compute_type, intra_threads=torch.get_num_threads(), inter_threads=1
    )
    names = (directory / "vocabulary.json").read_text(encoding="utf-8")
    words = json.loads(names)
    texts = [[words[token] for token in prompt] for prompt in prompts]

    def run() -> list[list[int]]:
        found = generator.generate_batch(
            texts, max_length=new_tokens, min_length=new_tokens, sampling_topk=1, include_prompt_in_result=False
        )
        return [each.sequences_ids[0] for each in found]

    return run


def contenders(directory: Path, prompts: list[list[int]], new_tokens: int) -> dict[str, Run]:
    """All of them, by name, with the same weights, which are written below `directory`."""
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    save(decoder, directory / "model")
    runs = {
        f"{PEER} {name}": theirs(directory / "model", dtype, prompts, new_tokens) for name, dtype in PRECISIONS.items()
    }
    # CTranslate2 wants names of tokens; which ones does not matter, since prompts are given as tokens.
    tokenizer.train(["any text"], TokenizerRecipe(vocab_size=260), directory / "tokenizer")
    for quantization in ("float32", "int8"):
        out = directory / quantization
        export.write(decoder, directory / "tokenizer", out, quantization)
        runs[f"{EXPORTED} {quantization}"] = exported(out, quantization, prompts, new_tokens)
    for name, dtype in PRECISIONS.items():
        converted = copy.deepcopy(decoder).to(dtype)
        converted.compute_dtype = dtype
        runs[f"{OURS} {name}"] = ours(converted, prompts, new_tokens)
    return runs


def measure(batch_size: int, prompt_tokens: int, new_tokens: int, rounds: int) -> dict[str, object]:
    """Rates of all contenders at one batch size, and their ratios to `transformers` in the same precision."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(1, CONFIG.vocab_size, (batch_size, prompt_tokens), generator=generator).tolist()
    with tempfile.TemporaryDirectory() as directory:
        runs = contenders(Path(directory), prompts, new_tokens)
    outputs = {name: run() for name, run in runs.items()}  # also the warm-up
    expected = outputs[f"{PEER} float32"]
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            rates[name].append(batch_size * new_tokens / (time.perf_counter() - started))
    ratios = {
        f"{name} / {peer}": statistics.median(one / other for one, other in zip(rates[name], rates[peer], strict=True))
        for name, peer in RATIOS.items()
    }
    return {
        "batch_size": batch_size,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "tokens_per_second": {name: statistics.median(found) for name, found in rates.items()},
        "ratio": ratios,
        "equal_tokens_float32": {name: outputs[f"{name} float32"] == expected for name in (OURS, EXPORTED)},
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
    for name in results[0]["ratio"]:
        table.add_row(name, *(f"{result['ratio'][name]:.2f}" for result in results))
    for name in (OURS, EXPORTED):
        same = ("yes" if result["equal_tokens_float32"][name] else "NO" for result in results)
        table.add_row(f"{name}: same tokens in float32", *same)
    Console().print(table)
    write_json(options.out, {"results": results, "environment": environment.describe()})


if __name__ == "__main__":
    main()
