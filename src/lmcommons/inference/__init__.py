"""What a trained model is for besides going on with a text: filling masks, classes, translations and answers.

`load` (loading) opens a model with whatever tokenizer it has; `fill`, `classify` and `answer` are a task each, `write`
is translation and all that a model puts in its own words; they take many texts at once. `text` holds tokenizers,
`batches` reads rows together, `spans` finds answers in texts. Uses generation, model and client; fine-tuning measures
with the same code.
"""

from lmcommons.inference.loading import Loaded, TextError, load

__all__ = ["Loaded", "TextError", "load"]
