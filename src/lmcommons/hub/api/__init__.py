"""The Hugging Face Hub protocol over HTTP (hub-protocol.md): thin, one module a chapter.

A handler reads the request, calls a room of `request.app.state.hub`, and shapes the answer. Decisions, of permission
above all, are made in the rooms. `dependencies.py` has what handlers share; `errors.py` answers what rooms raise; what
an address means is in `hub/addresses.py`, which the pages share.
"""
