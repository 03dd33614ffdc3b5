"""Tokens per second of our training step beside that of `transformers`: same shapes, same processor, interleaved.

Ours is the step of `lmc pretrain` (lmcommons.training.loop.training_step): forward, backward, clipping and AdamW on
packed rows of several documents each, with attention inside documents only. Theirs is LlamaForCausalLM as it comes,
with one document a row, fused AdamW and clipping: once with bfloat16 autocast and torch.compile, once in float32
without either, as a plain `Trainer` does on a processor. Each contender has a process of its own, as a user's run has;
they run in turn for a few seconds, again and again. A ratio is the median over these rounds, so that a machine that is
busy with other things slows all of them alike.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from lmcommons import environment
from lmcommons.files import write_json
from lmcommons.model import Decoder, DecoderConfig
from lmcommons.model.interop import llama
from lmcommons.recipe import OptimizerRecipe
from lmcommons.training.batches import Batch
from lmcommons.training.execution import flops_per_token, reproducible
from lmcommons.training.loop import training_step
from lmcommons.training.memory import keep_freed_memory
from lmcommons.training.objectives import causal_language_modelling
from lmcommons.training.optimiser import Optimiser

RESULTS = Path(__file__).parent / "results" / "training.json"
DOCUMENT_TOKENS = 100  # of a packed row's documents, on average
OURS = "lmcommons bf16 compiled"
PEERS = ("transformers bf16 compiled", "transformers fp32 eager")


@dataclass(frozen=True)
class Shape:
    """One size of model and batch."""

    config: DecoderConfig
    context_length: int
    batch_size: int

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.context_length * self.batch_size


def shape(hidden: int, inner: int, layers: int, heads: int, vocab: int, context: int, batch: int) -> Shape:
    """A shape with full (not grouped) attention and tied embeddings."""
    config = DecoderConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        vocab_size=vocab,
        bos_token_id=0,
        eos_token_id=0,
    )
    return Shape(config, context, batch)


SHAPES = {
    "small": shape(256, 704, 6, 4, 8192, 256, 8),
    "medium": shape(512, 1408, 8, 8, 16384, 512, 4),
}


def packed_batch(shape: Shape) -> Batch:
    """Random tokens in documents of random lengths, packed."""
    size = (shape.batch_size, shape.context_length)
    tokens = torch.randint(shape.config.vocab_size, size)
    begins = torch.rand(size) < 1 / DOCUMENT_TOKENS
    return Batch(tokens, tokens.roll(-1, dims=1), begins.cumsum(dim=1))


def ours(shape: Shape) -> Callable[[], None]:
    """One step of `lmc pretrain`."""
    keep_freed_memory()
    model = Decoder(shape.config)
    model.compute_dtype = torch.bfloat16
    optimiser = Optimiser(model, OptimizerRecipe())
    objective = torch.compile(causal_language_modelling, dynamic=False)
    parts = [packed_batch(shape)]

    def step() -> None:
        with reproducible():
            training_step(objective, model, optimiser, parts, gradient_clip=1.0)[0].item()

    return step


def theirs(shape: Shape, dtype: torch.dtype, compiled: bool) -> Callable[[], None]:
    """One step of `transformers` in a plain loop."""
    fields = llama.config_to_transformers(shape.config, torch.float32)
    model = LlamaForCausalLM(LlamaConfig(**fields)).train()
    forward = torch.compile(model, dynamic=False) if compiled else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, fused=True)
    tokens = packed_batch(shape).tokens

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = forward(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()

    return step


def contend(build: Callable[[], Callable[[], None]], tokens: int, requests: Connection) -> None:
    """A contender's process: answers a number of seconds with tokens per second over them, None with peak memory."""
    torch.manual_seed(0)
    step = build()
    for _ in range(3):
        step()
    requests.send(None)
    while (seconds := requests.recv()) is not None:
        started, steps = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds or not steps:
            step()
            steps += 1
        requests.send(steps * tokens / elapsed)
    requests.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure(name: str, shape: Shape, rounds: int, seconds: float) -> dict[str, Any]:
    """Run every contender `rounds` times for `seconds` each; medians and ratios."""
    contenders = {
        OURS: partial(ours, shape),
        PEERS[0]: partial(theirs, shape, torch.bfloat16, compiled=True),
        PEERS[1]: partial(theirs, shape, torch.float32, compiled=False),
    }
    spawn = multiprocessing.get_context("spawn")
    connections = {}
    for contender, build in contenders.items():
        print(f"{name}: preparing {contender}", file=sys.stderr)
        connections[contender], far_end = spawn.Pipe()
        spawn.Process(target=contend, args=(build, shape.tokens, far_end), daemon=True).start()
        far_end.close()
        connections[contender].recv()
    speeds: dict[str, list[float]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
        for contender, connection in connections.items():
            connection.send(seconds)
            speeds[contender].append(connection.recv())
    memory = {}
    for contender, connection in connections.items():
        connection.send(None)
        memory[contender] = connection.recv()
    ratios = {peer: [a / b for a, b in zip(speeds[OURS], speeds[peer], strict=True)] for peer in PEERS}
    return {
        "shape": shape.config.model_dump(mode="json")
        | {"context_length": shape.context_length, "batch_size": shape.batch_size},
        "parameters": shape.config.parameters(shape.config.vocab_size),
        "tokens_per_second": {contender: statistics.median(values) for contender, values in speeds.items()},
        "tokens_per_second_of_rounds": speeds,
        "gflops": statistics.median(speeds[OURS]) * flops_per_token(shape.config, shape.context_length) / 1e9,
        "peak_memory": memory,
        "ratio": {peer: statistics.median(values) for peer, values in ratios.items()},
        "ratio_range": {peer: [min(values), max(values)] for peer, values in ratios.items()},
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    """The table on stdout."""
    table = Table("shape", "contender", "tokens/s", "peak MiB", "lmcommons is faster by", title="training")
    for name, result in results.items():
        for contender in (OURS, *PEERS):
            faster = ""
            if contender in PEERS:
                low, high = result["ratio_range"][contender]
                faster = f"{result['ratio'][contender]:.2f}× ({low:.2f}–{high:.2f})"
            speed, memory = result["tokens_per_second"][contender], result["peak_memory"][contender]
            table.add_row(name, contender, f"{speed:,.0f}", f"{memory / 2**20:,.0f}", faster)
    Console(width=110).print(table)


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each contender in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = {name: measure(name, SHAPES[name], arguments.rounds, arguments.seconds) for name in arguments.shapes}
    write_json(arguments.out, {"results": results, "environment": environment.describe()})
    show(results)


if __name__ == "__main__":
    main()
