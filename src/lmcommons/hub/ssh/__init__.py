"""The door for git over SSH: who comes in by a key (`server.py`), and the commands that are answered (`commands.py`).

A thin door like `api/` and `web/`: rooms decide, and `repos/transport.py` holds what fetches and pushes share.
"""
