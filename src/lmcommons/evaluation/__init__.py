"""How well a model predicts text that it was not trained on, with intervals, beside numbers that give it a meaning.

`evaluate` measures a model on a dataset's test split; `table` and `eval_results` write what it found for a card and for
a hub. Uses the model, the tokenizer and the data; knows nothing of training. Start reading at `language_modelling.py`.
"""

from lmcommons.evaluation.language_modelling import evaluate
from lmcommons.evaluation.results import eval_results, table

__all__ = ["eval_results", "evaluate", "table"]
