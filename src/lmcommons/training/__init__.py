"""Pretraining: from a dataset and a tokenizer to a model directory.

`pretrain` is the stage, and `pretraining` the place to begin. `loop` is the run between its checkpoints and holds
`training_step`; `batches`, `objectives`, `optimiser` and `schedule` are what a step is made of; `execution` decides
device, precision and compiling, `memory` how blocks are reused; `checkpoint` and `metrics` are what a run leaves on
disk. Uses model, tokenizer, data.
"""

from lmcommons.training.loop import training_step
from lmcommons.training.pretraining import pretrain

__all__ = ["pretrain", "training_step"]
