"""From results on disk to repositories on a hub: dataset and model, each with a card that can be checked.

`hub.py` uploads through the unmodified `huggingface_hub` client, `cards.py` writes the cards, `curve.py` draws the
training curve. May import every room of the toolkit but `serving`; start reading at `hub.py`.
"""

from lmcommons.publishing.hub import Hub, Published

__all__ = ["Hub", "Published"]
