"""LM Commons: build language models in the open, and share them on a hub that anyone can host.

Two halves that never import each other: the toolkit (`data`, `tokenizer`, `model`, `training`, `generation`,
`evaluation`, `serving`, `publishing`) and the hub (`hub`). They meet in the Hugging Face Hub protocol and in
files. Start reading at `recipe.py` for the toolkit, `hub/app.py` for the hub, `cli/` for the commands.
"""

__version__ = "0.1.0"
