"""Several processes that train one model: how they are started, what they share, how the model is split.

The rows of a step's batch are divided among the processes, so the result is that of one process to rounding. With
`ddp` every process has the whole model and gradients are averaged (Li et al. 2020); with `fsdp` weights, gradients and
optimiser state are split too, and a layer is whole only while it computes (Rajbhandari et al. 2020; Zhao et al. 2023).
The model knows nothing of it. In one process every function here leaves its argument alone.
"""

import logging
import os
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import active_children
from typing import Any, Literal, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from lmcommons.errors import CommandError, RequestError, StoppedError
from lmcommons.model import Model
from lmcommons.model.attention import CrossAttention
from lmcommons.model.stack import Layer
from lmcommons.model.xlnet import RelativeAttention
from lmcommons.processes import Processes
from lmcommons.training.batches import Batch

Loss = Callable[[Model, Batch], Tensor]
Strategy = Literal["single", "ddp", "fsdp"]
STOPPING_SECONDS = 15  # that a process has when another one of the run has ended


def launch(processes: Processes, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run `work(*arguments)` in all processes (torchrun), and return what the first one of this machine returns.

    SIGINT and SIGTERM are passed on to the processes, which end by themselves; a second one ends them at once.

    Raises:
        RequestError: there are fewer GPUs than processes.
        CommandError: what a process raised, or that one was killed.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes.per_node:
        raise RequestError(
            f"--nproc-per-node {processes.per_node}, and this machine has {gpus} GPUs; give at most that"
        )
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    silent = {rank: Std.ALL for rank in range(processes.per_node) if rank or processes.node_rank}
    logging.disable(logging.CRITICAL)  # of torchrun's own account of what is said in one line below
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    try:
        with tempfile.TemporaryDirectory() as logs, _signals_passed_on():
            config = LaunchConfig(
                min_nodes=processes.nodes,
                max_nodes=processes.nodes,
                nproc_per_node=processes.per_node,
                run_id="lmc",
                rdzv_backend="static",
                rdzv_endpoint=processes.endpoint or f"127.0.0.1:{_free_port()}",
                rdzv_configs={"rank": processes.node_rank},
                max_restarts=0,
                signals_to_handle="SIGHUP",  # the others are ours
                shutdown_timeout=STOPPING_SECONDS,
                logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=silent),
            )
            threads = max(1, torch.get_num_threads() // processes.per_node)
            results = elastic_launch(config, _take_part)(threads, work, arguments)
            return results[min(results)]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise _as_one_line(rank, failure) from error
    finally:
        logging.disable(logging.NOTSET)


def _as_one_line(rank: int, failure: Any) -> CommandError:
    said = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    kind, _, message = said.partition(": ")
    ours = {error.__name__: error for error in (CommandError, RequestError, StoppedError)}
    if kind in ours:
        return ours[kind](message)
    ended = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"failed ({said})"
    return CommandError(
        f"process {rank} {ended}, and the others were stopped; the same command continues from the last checkpoint"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    """The first SIGINT or SIGTERM goes to all processes, a second one acts as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def pass_on(number: int, frame: object) -> None:
        for child in active_children():
            child.terminate()
        for each, handler in former.items():
            signal.signal(each, handler)

    for number in former:
        signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _take_part(threads: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """One process of the run: joins the others, works, leaves."""
    # A terminal's Ctrl-C comes here too, beside what is passed on: only the training loop listens, and once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    result = work(*arguments)
    distributed.destroy_process_group()
    return result


def rank() -> int:
    """Which of the processes this is; the first one writes and shows."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def total(value: Tensor) -> Tensor:
    """The sum of the processes' values, in place."""
    if size() > 1:
        distributed.all_reduce(value)
    return value


def any_of(value: bool) -> bool:
    """Whether it is true in one of the processes."""
    return bool(total(torch.tensor(int(value)))) if size() > 1 else value


def share(batch: Batch) -> Batch:
    """The rows of a batch that this process computes."""
    return batch.parts(size())[rank()] if size() > 1 else batch


def whole(tensor: Tensor) -> Tensor:
    """A tensor whose parts the processes have, in one piece; all must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process has of a tensor that is split as `like`; a tensor of another shape is not."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


class _Whole(nn.Module):
    """A loss as a module, since that is what is made parallel."""

    def __init__(self, loss: Loss, model: Model) -> None:
        super().__init__()
        self.loss, self.model = loss, model

    def forward(self, model: Model, batch: Batch) -> Tensor:
        return self.loss(model, batch)


def parallel(loss: Loss, model: Model, strategy: Strategy, *, compiled: bool) -> tuple[Loss, Loss]:
    """`loss` on the shares of a batch, as it is trained and as it is validated, with gradients averaged over processes.

    With `fsdp` the weights of `model` are split from now on; what is made of them, such as an optimiser, comes after.
    """
    if strategy == "fsdp":
        if compiled:
            for module in model.modules():
                if isinstance(module, Layer):
                    module.compile(dynamic=False)
        split = _split(loss, model)
        return split, split
    fast: Loss = torch.compile(loss, dynamic=False) if compiled else loss
    if strategy == "single":
        return fast, loss
    return DistributedDataParallel(_Whole(fast, model)), loss


def _split(loss: Loss, model: Model) -> nn.Module:
    """Each layer in parts of its own; all other weights are whole from the beginning of a step to its end."""
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # which nothing here changes in place
    for module in model.modules():
        if isinstance(module, CrossAttention | RelativeAttention):  # read before the layer that they are in is called
            fully_shard(module, reshard_after_forward=False)
            register_fsdp_forward_method(module, "keys_values")
    for module in model.modules():
        if isinstance(module, Layer):
            fully_shard(module)
    together = _Whole(loss, model)
    fully_shard(together)
    return together


def unsynchronised(loss: Loss) -> AbstractContextManager[None]:
    """While it lasts, gradients are not averaged: for all parts of a batch but the last."""
    return (
        cast(AbstractContextManager[None], loss.no_sync())
        if isinstance(loss, DistributedDataParallel)
        else nullcontext()
    )
