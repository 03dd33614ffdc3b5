"""Sending files from the browser: all in a form, or one after another where scripts run; then one commit."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.objects.store import Incoming
from lmcommons.hub.repos.uploads import FILE_LIMIT, FILES_LIMIT, Received
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.uploads import TEXT_LIMIT, Files, long_form_handler
from lmcommons.hub.web.views.editing import Said, propose, writing_page
from lmcommons.hub.web.visitors import Form, signed_in, visitor

FORM_LIMIT = FILE_LIMIT + TEXT_LIMIT  # bytes of all files of a form that is sent without a script


def upload(request: Request, kind: RepositoryType) -> Response:
    """The form to send files to a folder."""
    _, repository, git = repository_of(request, kind, Action.READ)
    revision, folder = addresses.revision_and_path(request)
    git.branch(revision)
    return signed_in(lambda request: _form_page(request, repository, revision, {"folder": folder}))(request)


def commit(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Commit files that came with the form, or before it one by one; or open a pull request with them."""
    hub, repository, _ = repository_of(request, kind, Action.READ)
    revision, _ = addresses.revision_and_path(request)
    try:
        return RedirectResponse(_commit(request, hub, repository, revision, form, files), 303)
    except HubError as error:
        return _form_page(request, repository, revision, form, error=error)


def receive(request: Request, form: Form, files: Files) -> Response:
    """Take one file, and say by what a commit can name it."""
    if not files:
        raise BadRequest("No file was sent")
    return JSONResponse(asdict(_named(files[0][1])))


def _take(request: Request, name: str, kind: RepositoryType) -> AbstractContextManager[Incoming]:
    hub, repository, _ = repository_of(request, kind, Action.READ)
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() else 0
    return hub.uploads.receiving(visitor(request), repository, max(0, min(size, FILE_LIMIT)))


def _commit(request: Request, hub: Hub, repository: Repository, revision: str, form: Form, files: Files) -> str:
    """Make the commit; returns the page that shows it."""
    actor, folder = visitor(request), form.get("folder", "").strip().strip("/")
    sent = {name: _named(incoming) for name, incoming in files} | _received(form.get("received", ""))
    wanted = {f"{folder}/{name}" if folder else name: file for name, file in sent.items()}
    operations = hub.uploads.operations(repository, revision, wanted)
    said = Said.of(form, f"Upload {next(iter(wanted)) if len(wanted) == 1 else f'{len(wanted)} files'}")
    if form.get("propose"):
        return propose(request, repository, revision, operations, said)
    hub.pull_requests.require_write(actor, repository, revision)
    hub.commits.commit(actor, repository, revision, operations, message=said.message)
    return addresses.at(repository, "tree", revision, folder)


def _named(incoming: Incoming) -> Received:
    return Received(incoming.sha256, incoming.size)


def _received(text: str) -> dict[str, Received]:
    """The files that a script sent before the form, as it was answered then, each with its path."""
    try:
        return {
            _text(file["path"]): Received(_text(file["sha256"]), int(file["size"])) for file in json.loads(text or "[]")
        }
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise BadRequest("The list of files that were sent cannot be read; send them again") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.encode(errors="replace").decode()


def _form_page(
    request: Request, repository: Repository, revision: str, filled: Form, error: HubError | None = None
) -> Response:
    return writing_page(
        request,
        "repository/upload.html",
        repository,
        revision,
        status=error.status if error else 200,
        action=addresses.raw_path(request),
        filled=filled,
        files_limit=FILES_LIMIT,
        file_limit=FILE_LIMIT,
        error=error and error.message,
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages to send files to `base`."""
    take = partial(_take, kind=kind)
    sending = long_form_handler(partial(commit, kind=kind), take, files=FILES_LIMIT, limit=FORM_LIMIT)
    router.add_route(f"{base}/upload/{{rest:path}}", partial(upload, kind=kind))
    router.add_route(f"{base}/upload/{{rest:path}}", sending, methods=["POST"])
    one = long_form_handler(receive, take, files=1, limit=FORM_LIMIT)
    router.add_route(f"{base}/upload-file", one, methods=["POST"])
