"""Pretraining: from a dataset and a tokenizer to a model directory.

`pretrain` is the stage, and `pretraining` the place to begin. `loop` is the run between its checkpoints and holds
`training_step`; `batches`, `objectives`, `loss`, `optimiser` and `schedule` are what a step is made of; `execution`
decides device, precision and compiling, `distributed` has the processes that train together, `memory` what a step
keeps; `checkpoint` and `metrics` are what a run leaves on disk. Uses model, tokenizer, data.
"""

from lmcommons.training.loop import training_step
from lmcommons.training.pretraining import pretrain

__all__ = ["pretrain", "training_step"]
