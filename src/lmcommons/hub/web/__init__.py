"""The hub's pages: thin views over the same rooms as the API, Jinja2 templates and one style sheet.

Every page works without scripts; htmx and a few small ones of ours save page loads. Only `lmcommons.hub.app` imports
this package. Start reading in `routes.py`, then a module of `views/`; every visible word is in `templates/`, and in
Chinese in `hub/locales/zh/`.
"""
