"""Fine-tuning: from a pretrained model, ours or any of `transformers`, and rows of a task to one that does the task.

`run` is the command and `stage` the place to begin. `rows` reads files, `encoding` turns rows into tokens, `batches`
into batches; `tasks` says what sets a task apart (`classifying`, `answering`, `writing`); `network` is a model as all
see it, `own` or `foreign`; `lora` holds low-rank changes; `loop` trains. Uses evaluation, training, generation, model,
tokenizer and data.
"""

from lmcommons.finetuning.run import run

__all__ = ["run"]
