"""Tokens per second and memory of our training steps beside those of `transformers`: same shapes, same processor.

Ours is the step of `lmc pretrain` (lmcommons.training.loop.training_step): forward, backward, clipping and AdamW, with
the batches of its objective: packed rows of several documents each for Llama and GPT-2, masked tokens for BERT,
corrupted spans for T5, two streams for XLNet. Theirs is the model of that name as it comes, on as many tokens, with
fused AdamW and clipping: once with bfloat16 autocast and torch.compile, once in float32 without either, as a plain
`Trainer` does on a processor. With a checkout of nanoGPT or nanochat at hand, its model runs in the compiled loop too.
The limit is that of bfloat16 matrix products of the feed-forward's shape, in the same rounds. Each contender has a
process of its own, as a user's run has; they run in turn for a few seconds, again and again. A ratio is the median over
these rounds, so that a machine that is busy with other things slows all alike.
"""

import argparse
import multiprocessing
import os
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
import transformers
from rich.console import Console
from rich.table import Table

from lmcommons import environment
from lmcommons.files import read_json, write_json
from lmcommons.model import ModelConfig, build
from lmcommons.model.interop.directory import config_fields
from lmcommons.recipe import OptimizerRecipe
from lmcommons.training.batches import Batch
from lmcommons.training.distributed import Loss
from lmcommons.training.execution import flops_per_token, reproducible
from lmcommons.training.loop import training_step
from lmcommons.training.loss import fused_cross_entropy
from lmcommons.training.memory import keep_freed_memory, recompute_layers
from lmcommons.training.objectives import CausalLanguageModelling
from lmcommons.training.objectives.masked import masked_loss
from lmcommons.training.objectives.permutation import permutation_loss
from lmcommons.training.objectives.sequence_to_sequence import pair_loss
from lmcommons.training.optimiser import Optimiser

RESULTS = Path(__file__).parent / "results" / "training.json"
DOCUMENT_TOKENS = 100  # of a packed row's documents, on average
MASKED, CORRUPTED, PREDICTED = 0.15, 0.22, 0.17  # targets for each token read: BERT, T5, XLNet
OURS, LIMIT = "lmcommons bf16 compiled", "bf16 matrix products"
VARIANTS = {"lmcommons, fused loss": "fused", "lmcommons, layers recomputed": "recomputed"}
PEERS = {"transformers bf16 compiled": True, "transformers fp32 eager": False}
NANOGPT, NANOCHAT = "nanoGPT bf16 compiled", "nanochat bf16 compiled"
FAMILIES = ("llama", "gpt2", "bert", "t5", "xlnet")


@dataclass(frozen=True)
class Shape:
    """One size of model and batch."""

    config: ModelConfig
    context_length: int
    batch_size: int

    @property
    def tokens(self) -> int:
        """Tokens that a step reads."""
        return self.context_length * self.batch_size

    @property
    def targets(self) -> int:
        """Tokens of a row that are predicted."""
        shares = {"encoder": MASKED, "encoder-decoder": CORRUPTED, "permutation": PREDICTED}
        return round(shares.get(self.config.kind, 1) * self.context_length)


# hidden, feed-forward with a gate, layers, heads, vocabulary, context, batch
SHAPES = {"small": (256, 704, 6, 4, 8192, 256, 8), "medium": (512, 1408, 8, 8, 16384, 512, 4)}


def shape(family: str, size: str) -> Shape:
    """A shape with full (not grouped) attention and tied embeddings; T5 has half of the layers on either side."""
    hidden, inner, layers, heads, vocab, context, batch = SHAPES[size]
    config = ModelConfig(
        family=family,
        hidden_size=hidden,
        **({"intermediate_size": inner} if family == "llama" else {}),
        num_hidden_layers=layers // 2 if family == "t5" else layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        **({} if family == "xlnet" else {"max_position_embeddings": context}),
        vocab_size=vocab,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None if family in ("llama", "gpt2") else 0,
        decoder_start_token_id=0 if family == "t5" else None,
    )
    return Shape(config, context, batch)


def batch(shape: Shape) -> Batch:
    """Random tokens in the form that the family's objective gives them."""
    rows, length, targets = shape.batch_size, shape.context_length, shape.targets
    tokens = torch.randint(1, shape.config.vocab_size, (rows, length))
    one_document = torch.zeros(rows, length, dtype=torch.int64)
    places = torch.stack([torch.randperm(length)[:targets].sort().values for _ in range(rows)])
    match shape.config.kind:
        case "encoder":
            return Batch(tokens, tokens.gather(1, places), one_document, places)
        case "permutation":
            order = torch.zeros_like(tokens).scatter(1, places, torch.randperm(targets).expand(rows, -1) + 1)
            second = (torch.arange(length) >= length // 2).long().expand(rows, -1)
            return Batch(tokens, tokens.gather(1, places), one_document, places, second, order)
        case "encoder-decoder":
            written = tokens[:, :targets]
            document = one_document[:, :targets]
            return Batch(tokens, written, one_document, target_tokens=written.roll(1), target_document_ids=document)
        case _:
            begins = torch.rand(rows, length) < 1 / DOCUMENT_TOKENS
            return Batch(tokens, tokens.roll(-1, dims=1), begins.cumsum(dim=1))


def loss_of(shape: Shape) -> Loss:
    """The loss of the family's objective."""
    match shape.config.kind:
        case "encoder":
            return masked_loss
        case "permutation":
            return permutation_loss
        case "encoder-decoder":
            return pair_loss
        case _:
            return CausalLanguageModelling().loss


def ours(shape: Shape, variant: str = "") -> Callable[[], None]:
    """One step of `lmc pretrain`."""
    keep_freed_memory()
    model = build(shape.config)
    model.compute_dtype = torch.bfloat16
    if variant == "fused":
        model.fused_cross_entropy = fused_cross_entropy
    if variant == "recomputed":
        recompute_layers(model)
    optimiser = Optimiser(model, OptimizerRecipe())
    objective = torch.compile(loss_of(shape), dynamic=False)
    parts = [batch(shape)]

    def step() -> None:
        with reproducible():
            training_step(objective, model, optimiser, parts, gradient_clip=1.0)[0].item()

    return step


def inputs(shape: Shape) -> dict[str, torch.Tensor]:
    """What `transformers` is called with for the same work."""
    ready = batch(shape)
    if shape.config.kind in ("decoder", "encoder-decoder"):
        labels = ready.tokens if ready.target_tokens is None else ready.targets
        return {"input_ids": ready.tokens, "labels": labels.contiguous()}
    assert ready.places is not None
    if ready.order is None:
        return {
            "input_ids": ready.tokens,
            "labels": torch.full_like(ready.tokens, -100).scatter(1, ready.places, ready.targets),
        }
    hidden = ~(ready.order[:, None] < ready.order[:, :, None].clamp(min=1))
    mapping = torch.nn.functional.one_hot(ready.places, shape.context_length)
    return {
        "input_ids": ready.tokens,
        "perm_mask": hidden.float(),
        "target_mapping": mapping.float(),
        "token_type_ids": ready.token_types,
        "labels": ready.targets,
    }


def theirs(shape: Shape, compiled: bool) -> Callable[[], None]:
    """One step of `transformers` in a plain loop; with bfloat16 autocast where it is compiled."""
    fields = config_fields(shape.config)
    name = fields["architectures"][0]
    model = getattr(transformers, name)(transformers.AutoConfig.for_model(**fields)).train()
    theirs, ours = model.num_parameters(), shape.config.parameters(shape.config.vocab_size)
    assert theirs == ours, f"{name} has {theirs:,} parameters and our model {ours:,}"
    forward = torch.compile(model, dynamic=False) if compiled else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, fused=True)
    given = inputs(shape)
    given |= {"use_cache": False} if shape.config.kind in ("decoder", "encoder-decoder") else {}

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=compiled):
            loss = forward(**given).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()

    return step


def products(shape: Shape) -> Callable[[], None]:
    """Matrix products as large as a feed-forward's."""
    inner = shape.config.intermediate_size
    x = torch.randn(shape.tokens, shape.config.hidden_size, dtype=torch.bfloat16)
    weight = torch.randn(inner, shape.config.hidden_size, dtype=torch.bfloat16)

    def step() -> None:
        torch.nn.functional.linear(x, weight)

    return step


def nanogpt(shape: Shape, checkout: Path) -> Callable[[], None]:
    """One step of nanoGPT's GPT-2, which has the same parameters as ours."""
    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    config = shape.config
    model = GPT(
        GPTConfig(
            block_size=shape.context_length,
            vocab_size=config.vocab_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_embd=config.hidden_size,
        )
    )
    return plain_step(model, lambda forward, tokens, targets: forward(tokens, targets)[1], shape)


def nanochat(shape: Shape, checkout: Path) -> Callable[[], None]:
    """One step of nanochat's model, of the same width, depth and vocabulary; it has parameters that no other has."""
    os.environ["NANOCHAT_DTYPE"] = "bfloat16"
    sys.path.insert(0, str(checkout))
    from nanochat.gpt import GPT, GPTConfig  # type: ignore[import-not-found]

    config = shape.config
    model = GPT(
        GPTConfig(
            sequence_len=shape.context_length,
            vocab_size=config.vocab_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_kv_head=config.num_attention_heads,
            n_embd=config.hidden_size,
            window_pattern="L",
        )
    )
    model.init_weights()
    return plain_step(model, lambda forward, tokens, targets: forward(tokens, targets), shape)


def plain_step(model: torch.nn.Module, loss_of: Callable[..., torch.Tensor], shape: Shape) -> Callable[[], None]:
    """The step of a peer's loop: compiled, bfloat16 autocast, clipping, fused AdamW."""
    forward = torch.compile(model.train(), dynamic=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, fused=True)
    ready = batch(shape)
    tokens, targets = ready.tokens, ready.targets.contiguous()

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(forward, tokens, targets)
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


def measure(
    family: str,
    size: str,
    rounds: int,
    seconds: float,
    *,
    variants: bool,
    eager: bool,
    nanogpt_checkout: Path | None = None,
    nanochat_checkout: Path | None = None,
) -> dict[str, Any]:
    """Run every contender `rounds` times for `seconds` each; medians and ratios."""
    here = shape(family, size)
    config = here.config
    product = 2 * here.tokens * config.hidden_size * config.intermediate_size
    contenders: dict[str, tuple[Callable[[], Callable[[], None]], int]] = {
        OURS: (partial(ours, here), here.tokens),
        LIMIT: (partial(products, here), product),
    }
    contenders |= {name: (partial(ours, here, kind), here.tokens) for name, kind in VARIANTS.items() if variants}
    contenders |= {
        name: (partial(theirs, here, compiled), here.tokens) for name, compiled in PEERS.items() if compiled or eager
    }
    if nanogpt_checkout and family == "gpt2":
        contenders[NANOGPT] = (partial(nanogpt, here, nanogpt_checkout), here.tokens)
    if nanochat_checkout and family == "llama":
        contenders[NANOCHAT] = (partial(nanochat, here, nanochat_checkout), here.tokens)
    spawn = multiprocessing.get_context("spawn")
    connections = {}
    for contender, (start, amount) in contenders.items():
        print(f"{family} {size}: preparing {contender}", file=sys.stderr)
        connections[contender], far_end = spawn.Pipe()
        spawn.Process(target=contend, args=(start, amount, far_end), daemon=True).start()
        far_end.close()
        try:
            connections[contender].recv()
        except EOFError:  # it says why on stderr
            del connections[contender]
    speeds: dict[str, list[float]] = {contender: [] for contender in connections}
    for number in range(rounds):
        print(f"{family} {size}: round {number + 1} of {rounds}", file=sys.stderr)
        for contender, connection in connections.items():
            connection.send(seconds)
            speeds[contender].append(connection.recv())
    memory = {}
    for contender, connection in connections.items():
        connection.send(None)
        memory[contender] = connection.recv()
    others = [name for name in connections if name not in (OURS, LIMIT)]
    ratios = {name: [a / b for a, b in zip(speeds[OURS], speeds[name], strict=True)] for name in others}
    flops = flops_per_token(config, here.context_length, here.targets)
    limit = [flops * a / b for a, b in zip(speeds[OURS], speeds[LIMIT], strict=True)]
    return {
        "shape": config.model_dump(mode="json")
        | {"context_length": here.context_length, "batch_size": here.batch_size},
        "parameters": config.parameters(config.vocab_size),
        "tokens_per_second": {name: statistics.median(values) for name, values in speeds.items() if name != LIMIT},
        "rounds": speeds,
        "gflops": statistics.median(speeds[OURS]) * flops / 1e9,
        "limit_gflops": statistics.median(speeds[LIMIT]) / 1e9,
        "share_of_limit": statistics.median(limit),
        "peak_memory": {name: value for name, value in memory.items() if name != LIMIT},
        "ratio": {name: statistics.median(values) for name, values in ratios.items()},
        "ratio_range": {name: [min(values), max(values)] for name, values in ratios.items()},
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    """The table on stdout."""
    table = Table(
        "shape", "contender", "tokens/s", "peak MiB", "lmcommons is faster by", "of the limit", title="training"
    )
    for name, result in results.items():
        for contender, speed in result["tokens_per_second"].items():
            faster = ""
            if contender in result["ratio"]:
                low, high = result["ratio_range"][contender]
                faster = f"{result['ratio'][contender]:.2f}× ({low:.2f}–{high:.2f})"
            share = f"{result['share_of_limit']:.0%}" if contender == OURS else ""
            memory = result["peak_memory"][contender]
            table.add_row(name, contender, f"{speed:,.0f}", f"{memory / 2**20:,.0f}", faster, share)
    Console(width=120).print(table)


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--variants", action="store_true", help="also the fused loss and recomputed layers")
    parser.add_argument("--no-eager", action="store_true", help="without the float32 loop of the peer")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT, to run beside GPT-2")
    parser.add_argument("--nanochat", type=Path, help="a checkout of nanochat, to run beside Llama")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each contender in each round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    found = read_json(arguments.out)["results"] if arguments.out.exists() else {}
    results = {}
    for family in arguments.families:
        for size in arguments.shapes:
            results[f"{family} {size}"] = measure(
                family,
                size,
                arguments.rounds,
                arguments.seconds,
                variants=arguments.variants,
                eager=not arguments.no_eager,
                nanogpt_checkout=arguments.nanogpt,
                nanochat_checkout=arguments.nanochat,
            )
            written = {"results": found | results, "environment": environment.describe()}
            write_json(arguments.out, written)
    show(results)


if __name__ == "__main__":
    main()
