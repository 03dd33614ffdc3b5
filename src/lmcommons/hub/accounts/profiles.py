"""What people and organisations say of themselves: names, a few words, a website; the language that they chose."""

from urllib.parse import urlsplit

from lmcommons.hub.accounts.accounts import FULLNAME_LIMIT, find_account, find_own
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.words import Words

BIO_LIMIT, WEBSITE_LIMIT = 500, 200  # characters


class Profiles:
    """The profiles of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(
        self,
        actor: Actor,
        name: str,
        *,
        fullname: str,
        bio: str,
        website: str,
        private_by_default: bool | None = None,
    ) -> Account:
        """Change what an account says of itself; `private_by_default` is of an organisation's new repositories.

        Raises:
            Unauthorized, Forbidden: it is neither the actor's nor an organisation that the actor administers.
            BadRequest: something is too long, or no web address.
        """
        checked = {
            "fullname": _short(fullname, Words("full name"), FULLNAME_LIMIT) or name,
            "bio": _short(bio, Words("text about you"), BIO_LIMIT),
            "website": _website(website),
        }
        with self._database.write() as session:
            account = find_account(session, name)
            require(actor, Action.ADMINISTER, account)
            for column, value in checked.items():
                setattr(account, column, value)
            if private_by_default is not None and account.kind is AccountKind.ORGANISATION:
                account.private_by_default = private_by_default
            session.add(Event(kind="account.changed", actor=actor.name, data={"name": account.name}))
        return account

    def choose_language(self, actor: Actor, language: str) -> None:
        """Choose the language of the actor's pages and mail, one of `words.LANGUAGES`.

        Raises:
            Unauthorized: nobody is signed in. Forbidden: the token may not.
        """
        with self._database.write() as session:
            find_own(session, actor).language = language


def _short(text: str, what: str, limit: int) -> str:
    text = text.strip()
    if len(text) > limit or "\0" in text:
        raise BadRequest(
            "The {what} has {count:,} characters; at most {limit:,} are allowed, none of them NUL",
            what=what,
            count=len(text),
            limit=limit,
        )
    return text


def _website(text: str) -> str:
    text = _short(text, Words("web address"), WEBSITE_LIMIT)
    try:
        parts = urlsplit(text)
        valid = not text or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None)
    except ValueError:
        valid = False
    if not valid or not text.isprintable() or " " in text:
        raise BadRequest("{text!r} is not a web address like https://example.org", text=text[:80])
    return text
