"""Tokens per second of our generation beside `transformers` generate: same weights, same prompts, greedy, interleaved.

Ours is the batch that `lmc generate` and `lmc serve` run on, and CTranslate2 with the model as we export it. A random
Llama of 42 million parameters continues prompts of equal length, one and sixteen at a time; a rate counts new tokens
over the whole call, the reading of the prompts included. Each contender has a process of its own, as a user's has: two
pools of threads in one process keep each other from the cores. It computes with one thread and with all of them, since
threads that wait for one another can cost a small model more than they save; CTranslate2 divides a batch among the
cores where its products have one thread. They run in turn for a few seconds, again and again. A ratio is between the
better ways of both, and the median over these rounds, so that a machine that is busy with other things slows all of
them alike. In float32 all must give the same tokens.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ctranslate2
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from lmcommons import environment, tokenizer
from lmcommons.files import write_json
from lmcommons.generation import Batch, SamplingParameters, Sequence
from lmcommons.model import Decoder, ModelConfig, load, save
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
CORES = torch.get_num_threads()
PAUSE = 0.5  # seconds, in which the threads of the contender before stop waiting for work
Run = Callable[[], list[list[int]]]


class EndlessVocabulary:
    """No token ends a text, so that every contender computes the same number of tokens."""

    vocab_size = CONFIG.vocab_size
    stop_token_ids = ()

    def token_bytes(self, token_id: int) -> bytes:
        """Any text: only tokens are compared."""
        return b"token "


def ours(directory: Path, dtype: torch.dtype, prompts: list[list[int]], new_tokens: int) -> Run:
    """Our batch, made once as a server makes it, and filled at each call."""
    decoder = load(directory, dtype=dtype)
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
    """CTranslate2 with as many threads for a product as torch has; the cores that these leave get parts of a batch."""
    threads = torch.get_num_threads()
    parts = max(1, CORES // threads)
    generator = ctranslate2.Generator(
        str(directory), compute_type=compute_type, intra_threads=threads, inter_threads=parts
    )
    together = -(-len(prompts) // parts)
    words = json.loads((directory / "vocabulary.json").read_text(encoding="utf-8"))
    texts = [[words[token] for token in prompt] for prompt in prompts]

    def run() -> list[list[int]]:
        found = generator.generate_batch(
            texts,
            max_batch_size=together,
            max_length=new_tokens,
            min_length=new_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [each.sequences_ids[0] for each in found]

    return run


def write_models(directory: Path) -> None:
    """The same weights for all contenders, below `directory`."""
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    save(decoder, directory / "model")
    # CTranslate2 wants names of tokens; which ones does not matter, since prompts are given as tokens.
    tokenizer.train(["any text"], TokenizerRecipe(vocab_size=260), directory / "tokenizer")
    for quantization in ("float32", "int8"):
        export.write(decoder, directory / "tokenizer", directory / quantization, quantization)


def contenders(directory: Path, prompts: list[list[int]], new_tokens: int) -> dict[str, Callable[[], Run]]:
    """How each of them is made, by name."""
    found: dict[str, Callable[[], Run]] = {}
    for name, dtype in PRECISIONS.items():
        found[f"{PEER} {name}"] = partial(theirs, directory / "model", dtype, prompts, new_tokens)
        found[f"{OURS} {name}"] = partial(ours, directory / "model", dtype, prompts, new_tokens)
    for quantization in ("float32", "int8"):
        found[f"{EXPORTED} {quantization}"] = partial(
            exported, directory / quantization, quantization, prompts, new_tokens
        )
    return found


def contend(build: Callable[[], Run], tokens: int, threads: int, requests: Connection) -> None:
    """A contender's process: says what it writes, then answers a number of seconds with tokens per second over them."""
    torch.set_num_threads(threads)
    run = build()
    run()
    requests.send(run())
    while (seconds := requests.recv()) is not None:
        started, calls = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds or not calls:
            run()
            calls += 1
        requests.send(calls * tokens / elapsed)


def measure(
    directory: Path, batch_size: int, prompt_tokens: int, new_tokens: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Rates of all contenders at one batch size, and their ratios."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(1, CONFIG.vocab_size, (batch_size, prompt_tokens), generator=generator).tolist()
    spawn = multiprocessing.get_context("spawn")
    connections: dict[tuple[str, int], Connection] = {}
    outputs: dict[tuple[str, int], list[list[int]]] = {}
    for name, build in contenders(directory, prompts, new_tokens).items():
        for threads in sorted({1, CORES}):
            print(f"batch {batch_size}: preparing {name} with {threads} threads", file=sys.stderr)
            here, far_end = spawn.Pipe()
            arguments = build, batch_size * new_tokens, threads, far_end
            spawn.Process(target=contend, args=arguments, daemon=True).start()
            far_end.close()
            connections[name, threads], outputs[name, threads] = here, here.recv()
    rates: dict[tuple[str, int], list[float]] = {way: [] for way in connections}
    for number in range(rounds):
        print(f"batch {batch_size}: round {number + 1} of {rounds}", file=sys.stderr)
        for way, connection in connections.items():
            time.sleep(PAUSE)
            connection.send(seconds)
            rates[way].append(connection.recv())
    for connection in connections.values():
        connection.send(None)
    medians = {way: statistics.median(found) for way, found in rates.items()}
    names = {name for name, _ in rates}
    best = {name: max((way for way in rates if way[0] == name), key=medians.__getitem__) for name in names}
    ratios = {
        f"{name} / {peer}": [one / other for one, other in zip(rates[best[name]], rates[best[peer]], strict=True)]
        for name, peer in RATIOS.items()
    }
    expected = outputs[best[f"{PEER} float32"]]
    return {
        "batch_size": batch_size,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "rounds": {f"{name}, threads: {threads}": found for (name, threads), found in rates.items()},
        "tokens_per_second": {f"{name}, threads: {threads}": found for (name, threads), found in medians.items()},
        "ratio": {name: statistics.median(found) for name, found in ratios.items()},
        "ratio_range": {name: [min(found), max(found)] for name, found in ratios.items()},
        "equal_tokens_float32": {
            name: all(found == expected for (who, _), found in outputs.items() if who == f"{name} float32")
            for name in (OURS, EXPORTED)
        },
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each contender in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write_models(Path(directory))
        results = [
            measure(Path(directory), size, options.prompt_tokens, options.new_tokens, options.rounds, options.seconds)
            for size in options.batch_sizes
        ]
    table = Table("contender", *(f"batch {size}: tokens/s" for size in options.batch_sizes))
    for name in results[0]["tokens_per_second"]:
        table.add_row(name, *(f"{result['tokens_per_second'][name]:,.0f}" for result in results))
    for name in results[0]["ratio"]:
        cells = ((result["ratio"][name], *result["ratio_range"][name]) for result in results)
        table.add_row(name, *(f"{middle:.2f} ({low:.2f}–{high:.2f})" for middle, low, high in cells))
    for name in (OURS, EXPORTED):
        same = ("yes" if result["equal_tokens_float32"][name] else "NO" for result in results)
        table.add_row(f"{name}: same tokens in float32", *same)
    Console().print(table)
    write_json(options.out, {"results": results, "environment": environment.describe()})


if __name__ == "__main__":
    main()
