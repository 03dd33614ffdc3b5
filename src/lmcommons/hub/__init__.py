"""The hub: a server of models and datasets that speaks the Hugging Face Hub protocol, and its pages.

Doors (`api`, `web`) call rooms (`repos`, `accounts`), rooms use stores (`objects`, `database`, git); `rooms.py` opens
them all. Imports nothing of the toolkit; only the command line imports it. Start reading in `app.py`.
"""
