"""From results on disk to repositories on a hub: dataset and model, each with a card that can be checked.

`hub.py` uploads through the unmodified `huggingface_hub` client, `cards.py` writes the cards, `curve.py` draws the
training curve, and `reporting.py` tells the hub of a run while it trains. May import every room of the toolkit but
`serving`; start reading at `hub.py`.
"""

from lmcommons.publishing.hub import Hub, Published
from lmcommons.publishing.reporting import reported

__all__ = ["Hub", "Published", "reported"]
