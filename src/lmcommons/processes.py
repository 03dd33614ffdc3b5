"""What a training run is started with: how many processes, on how many machines. Knows nothing of torch."""

import os
from dataclasses import dataclass

from lmcommons.errors import RequestError
from lmcommons.recipe import PretrainingRecipe


@dataclass(frozen=True)
class Processes:
    """The processes of a run, in the words of torchrun.

    Attributes:
        per_node: processes on each machine.
        nodes: machines; the same command is started on each, and all see the same files.
        node_rank: which of the machines this is; the first one, 0, does all that is not training.
        endpoint: HOST:PORT of the first machine; not needed with one machine.
    """

    per_node: int = 1
    nodes: int = 1
    node_rank: int = 0
    endpoint: str = ""

    @property
    def total(self) -> int:
        return self.per_node * self.nodes

    def check(self, settings: PretrainingRecipe) -> None:
        """Refuse what does not fit the recipe.

        Raises:
            RequestError: one line that names the field or the option.
        """
        wanted, batch_size, parts = settings.parallelism.processes, settings.batch_size, settings.gradient_accumulation
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RequestError("started by torchrun; start `lmc pretrain RECIPE --nproc-per-node N` without it instead")
        if self.nodes > 1 and ":" not in self.endpoint:
            raise RequestError(f"--nnodes {self.nodes} needs --rdzv-endpoint HOST:PORT of the first machine")
        if self.node_rank >= self.nodes:
            raise RequestError(f"--node-rank {self.node_rank} is not below --nnodes {self.nodes}")
        if wanted is not None and wanted != self.total:
            raise RequestError(
                f"pretraining.parallelism.processes: {wanted}, and started with {self.total}; "
                f"add --nproc-per-node {wanted}, or leave the field out"
            )
        if batch_size % (self.total * parts):
            raise RequestError(
                f"pretraining.batch_size: {batch_size} rows cannot be divided among {self.total} processes times "
                f"gradient_accumulation {parts}"
            )


ONE_PROCESS = Processes()
