"""Writing in the browser: a text file or a card, new, changed, under another name, or deleted.

Who may write to the branch commits; everybody else's change becomes a pull request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.details import CARD
from lmcommons.hub.repos.editing import EDIT_LIMIT, Edit, EditConflict
from lmcommons.hub.repos.git import DeleteFile, Operation
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import markdown
from lmcommons.hub.web.lookup import place, repository_of
from lmcommons.hub.web.rendering import page, text, wants_part
from lmcommons.hub.web.uploads import Files, long_form_handler, no_files
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

FORM_LIMIT = 2 * EDIT_LIMIT  # bytes: the text, whose line ends browsers send as two characters, and the other fields


@dataclass(frozen=True)
class Said:
    """What somebody says about a change: the title, and the description, of a commit or a pull request."""

    title: str
    description: str

    @classmethod
    def of(cls, form: Form, usual: str) -> "Said":
        """What a form with `message.html` says; `usual` where it has no title."""
        return cls(form.get("message", "").strip() or usual, form.get("description", "").strip())

    @property
    def message(self) -> str:
        """The commit's message."""
        return f"{self.title}\n\n{self.description}".strip()


@dataclass(frozen=True)
class Draft:
    """What the editor shows: an edit that is not yet a commit, and what its commit will say."""

    edit: Edit
    message: str = ""
    description: str = ""
    propose: bool = False


@dataclass(frozen=True)
class Preview:
    """A Markdown file as its page will show it, and what is wrong with the metadata of a card."""

    html: Markup
    errors: Sequence[str]


def edit(request: Request, kind: RepositoryType) -> Response:
    """The editor with a file; of what is no text, only its name can be changed."""
    hub, repository, git = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    head = git.branch(revision)
    git.entry(head, path)
    try:
        found, why = hub.editing.text(repository, head, path), None
    except BadRequest as error:
        found, why = None, error.message
    draft = Draft(Edit(path, path, head, found))
    return signed_in(lambda request: _editor(request, repository, revision, draft, error=why))(request)


def new_file(request: Request, kind: RepositoryType) -> Response:
    """The editor with nothing yet; a card begins with its headings."""
    _, repository, git = repository_of(request, kind, Action.READ)
    revision, folder = addresses.revision_and_path(request)
    name = request.query_params.get("name", "")[:200]
    path = f"{folder}/{name}" if folder else name
    begun = text(request, "repository/card.md", name=repository.name, kind=kind, licence="") if path == CARD else ""
    draft = Draft(Edit(path, None, git.branch(revision), begun))
    return signed_in(lambda request: _editor(request, repository, revision, draft))(request)


def save(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Commit what was written, or open a pull request for it, or show how it will look."""
    hub, repository, _ = repository_of(request, kind, Action.READ)
    revision, _ = addresses.revision_and_path(request)
    path, former = form.get("path", "").strip(), form.get("former") or None
    edit = Edit(path, former, form.get("parent", ""), form.get("text"))
    draft = Draft(edit, form.get("message", ""), form.get("description", ""), bool(form.get("propose")))
    if form.get("do") == "preview":
        return _editor(request, repository, revision, draft, preview=_preview(hub, repository, revision, edit))
    try:
        return RedirectResponse(_save(request, hub, repository, revision, edit, form), 303)
    except EditConflict as conflict:
        return _editor(request, repository, revision, _second(draft, conflict), conflict=conflict, yours=edit.text)
    except HubError as error:
        return _editor(request, repository, revision, draft, error=error.message, status=error.status)


def confirm(request: Request, kind: RepositoryType) -> Response:
    """Whether to delete a file."""
    _, repository, git = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    head = git.branch(revision)
    git.entry(head, path)
    return signed_in(lambda request: _removal(request, repository, revision, path, head))(request)


def delete(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Delete a file, or open a pull request that does."""
    hub, repository, _ = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    parent, actor, said = form.get("parent", ""), visitor(request), Said.of(form, f"Delete {path}")
    try:
        if form.get("propose"):
            return RedirectResponse(
                propose(request, repository, revision, [DeleteFile(path)], said, parent=parent), 303
            )
        hub.pull_requests.require_write(actor, repository, revision)
        hub.editing.remove(actor, repository, revision, path, parent=parent, message=said.message)
    except HubError as error:
        return _removal(request, repository, revision, path, parent, error=error)
    folder = path.rpartition("/")[0]
    return RedirectResponse(addresses.at(repository, "tree", revision, folder), 303)


def writing_page(
    request: Request, template: str, repository: Repository, revision: str, *, status: int = 200, **values: Any
) -> Response:
    """A page on which somebody changes files of a revision."""
    hub: Hub = request.app.state.hub
    return page(
        request,
        template,
        status=status,
        section=repository.type,
        repository=repository,
        branch=hub.repositories.git(repository).default_branch,
        revision=revision,
        may_write=hub.pull_requests.may_write(visitor(request), repository, revision),
        **values,
    )


def propose(
    request: Request,
    repository: Repository,
    base: str,
    operations: Sequence[Operation],
    said: Said,
    *,
    parent: str | None = None,
) -> str:
    """Open a pull request for the branch `base`, with one commit on its commit `parent`; returns its page."""
    hub: Hub = request.app.state.hub
    proposed, _ = hub.pull_requests.propose(
        visitor(request), repository, base, operations, title=said.title, description=said.description, parent=parent
    )
    return f"{addresses.repository(repository)}/discussions/{proposed.number}"


def _save(request: Request, hub: Hub, repository: Repository, revision: str, edit: Edit, form: Form) -> str:
    """Save an edit; returns the page where it is now."""
    actor, said = visitor(request), Said.of(form, _title(edit))
    if form.get("propose"):
        operations = hub.editing.operations(repository, edit.parent, edit)
        return propose(request, repository, revision, operations, said, parent=edit.parent)
    hub.pull_requests.require_write(actor, repository, revision)
    hub.editing.save(actor, repository, revision, edit, message=said.message)
    return addresses.at(repository, "blob", revision, edit.path)


def _title(edit: Edit) -> str:
    if edit.former is None:
        return f"Create {edit.path}"
    return f"Edit {edit.path}" if edit.former == edit.path else f"Rename {edit.former} to {edit.path}"


def _second(draft: Draft, conflict: EditConflict) -> Draft:
    """The draft of who comes second, from what the first made: merged where that can be, else as it was written."""
    there = conflict.theirs is not None
    text = conflict.merged.text if conflict.merged is not None else draft.edit.text
    edit = replace(draft.edit, parent=conflict.head, former=draft.edit.former if there else None, text=text)
    return replace(draft, edit=edit)


def _preview(hub: Hub, repository: Repository, revision: str, edit: Edit) -> Preview | None:
    if not edit.path.endswith(markdown.SUFFIXES) or edit.text is None:
        return None
    errors = cards.metadata_errors(edit.text) if edit.path == CARD else []
    return Preview(markdown.render(cards.split(edit.text)[1], place(hub, repository, revision, edit.path)), errors)


def _editor(
    request: Request,
    repository: Repository,
    revision: str,
    draft: Draft,
    *,
    preview: Preview | None = None,
    conflict: EditConflict | None = None,
    yours: str | None = None,
    error: str | None = None,
    status: int = 200,
) -> Response:
    return writing_page(
        request,
        "repository/preview.html" if wants_part(request) else "repository/editor.html",
        repository,
        revision,
        status=409 if conflict else status,
        action=addresses.raw_path(request),
        draft=draft,
        edit=draft.edit,
        is_markdown=draft.edit.path.endswith(markdown.SUFFIXES) or not draft.edit.path,
        preview=preview,
        conflict=conflict,
        yours=yours,
        error=error,
    )


def _removal(
    request: Request, repository: Repository, revision: str, path: str, parent: str, error: HubError | None = None
) -> Response:
    status, message = (error.status, error.message) if error else (200, None)
    template = "repository/delete_file.html"
    return writing_page(request, template, repository, revision, status=status, path=path, parent=parent, error=message)


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages to write at `base`."""
    sending = long_form_handler(partial(save, kind=kind), no_files, limit=FORM_LIMIT)
    router.add_route(f"{base}/edit/{{rest:path}}", partial(edit, kind=kind))
    router.add_route(f"{base}/edit/{{rest:path}}", sending, methods=["POST"])
    router.add_route(f"{base}/new-file/{{rest:path}}", partial(new_file, kind=kind))
    router.add_route(f"{base}/new-file/{{rest:path}}", sending, methods=["POST"])
    router.add_route(f"{base}/delete/{{rest:path}}", partial(confirm, kind=kind))
    router.add_route(f"{base}/delete/{{rest:path}}", form_handler(partial(delete, kind=kind)), methods=["POST"])
