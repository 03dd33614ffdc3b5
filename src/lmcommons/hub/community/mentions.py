"""Names after an @ in what members write: whom they mean."""

import re
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import OWNERS
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account

# What may stand before the @ tells a mention from an address: letters of other scripts may, as in 谢谢@ada.
MENTION = re.compile(r"(?<![A-Za-z0-9_@/.+-])@([A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?)", re.ASCII)
CODE = re.compile(
    r"^ {0,3}(```+|~~~+)[^\n]*\n.*?(?:^ {0,3}\1|\Z)|(?<!`)(`+)(?!`).{1,2000}?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL
)
LIMIT = 1_000  # names that are looked up at once


class Mentions:
    """The mentions of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, texts: Iterable[str]) -> dict[str, str]:
        """The accounts that the texts mention: in lower case, and as they are written."""
        names = {name for text in texts for name in mentioned(text)}
        if not names:
            return {}
        with self._database.read() as session:
            return {account.name_key: account.name for account in find(session, names)}


def mentioned(text: str) -> list[str]:
    """The names that a text in Markdown mentions outside of code, in lower case, each once."""
    if "@" not in text:
        return []
    return list(dict.fromkeys(name.lower() for name in MENTION.findall(CODE.sub(" ", text))))


def find(session: Session, names: Iterable[str]) -> list[Account]:
    """The accounts of these names in lower case."""
    chosen = select(Account).where(Account.name_key.in_(sorted(names)[:LIMIT]), Account.kind.in_(OWNERS))
    return list(session.scalars(chosen))
