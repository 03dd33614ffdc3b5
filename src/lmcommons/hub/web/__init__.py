"""The hub's pages: thin views over the same rooms as the API, Jinja2 templates and one style sheet; no JavaScript.

Only `lmcommons.hub.app` imports this package. Start reading in `routes.py`; every visible word is in `templates/`.
"""
