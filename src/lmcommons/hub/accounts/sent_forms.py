"""Forms that were sent: one that comes twice, by a second click or a browser that asks again, is answered once."""

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import SentForm, now
from lmcommons.hub.errors import Conflict

KEPT = timedelta(days=1)
AT_WORK = timedelta(minutes=1)  # after which the process that took a form must have died


class SentForms:
    """Where each form that changed something led to; forms are known by a random key that their page carries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, key: str) -> str | None:
        """Take the form; the address that it led to, when it was taken before.

        Raises:
            Conflict: the same form is being answered at this moment.
        """
        sha256 = digest(key)
        try:
            with self._database.write() as session:
                unanswered = SentForm.address.is_(None) & (SentForm.sent_at <= now() - AT_WORK)
                session.execute(delete(SentForm).where((SentForm.sent_at <= now() - KEPT) | unanswered))
                session.add(SentForm(sha256=sha256))
        except IntegrityError:
            with self._database.read() as session:
                found = session.get(SentForm, sha256)
            if found is None or found.address is None:
                raise Conflict(
                    "This form was sent twice and its first copy is still at work; look again in a moment"
                ) from None
            return found.address
        return None

    def finish(self, key: str, address: str | None) -> None:
        """The form led to `address`; None: it changed nothing, and may be sent again."""
        with self._database.write() as session:
            found = session.get(SentForm, digest(key))
            if found is None:
                return
            if address is None:
                session.delete(found)
            else:
                found.address = address
