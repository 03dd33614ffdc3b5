"""How well a model predicts text that it was not trained on, with intervals, beside numbers that give it a meaning.

`evaluate` measures a causal model on a dataset's test split, `evaluate_objective` one of another kind; `table` and
`eval_results` write what they found for a card and for a hub. Uses the model, the tokenizer, the data and training's
objectives. Start reading at `language_modelling.py`.
"""

from lmcommons.evaluation.language_modelling import evaluate
from lmcommons.evaluation.objective import evaluate_objective
from lmcommons.evaluation.results import eval_results, table

__all__ = ["eval_results", "evaluate", "evaluate_objective", "table"]
