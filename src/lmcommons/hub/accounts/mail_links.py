"""Links that are sent by mail, work once and end: to verify an address, and to choose a new password.

The code in a link follows from a salt in its row and the hub's own secret: whoever sends the mail can make it again,
and who reads the database alone cannot.
"""

import base64
import hashlib
import hmac
import secrets
from datetime import timedelta

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import check_email, find_own
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.notices import log_change
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event, LinkPurpose, MailLink, now
from lmcommons.hub.errors import Forbidden, NotFound

LIFE = {LinkPurpose.EMAIL: timedelta(days=1), LinkPurpose.PASSWORD: timedelta(minutes=30)}
SAME_ADDRESS = 10  # accounts with one address that are sent a link each


class MailLinks:
    """The links of a hub, which `community/mail.py` sends, and the addresses of its users."""

    def __init__(self, database: Database, secret: bytes, *, is_sent: bool) -> None:
        """`secret` is the hub's; `is_sent`: whether the hub sends mail. If not, addresses are taken as they are."""
        self._database = database
        self._secret = secret
        self._is_sent = is_sent

    # ------------------------------------------------------------ addresses

    def waiting(self, actor: Actor) -> MailLink | None:
        """The link that was sent to verify the actor's new address; it may have ended."""
        mine = (MailLink.account_id == actor.account_id, MailLink.purpose == LinkPurpose.EMAIL)
        with self._database.read() as session:
            return session.scalar(select(MailLink).where(*mine))

    def change_email(self, actor: Actor, email: str) -> None:
        """Change the actor's own address, once it is verified; an empty one removes it, and one that waits.

        Raises:
            Unauthorized: nobody is signed in. BadRequest: it is no address.
        """
        with self._database.write() as session:
            user = find_own(session, actor)
            end_links(session, user, LinkPurpose.EMAIL)
            self.give_address(session, user, check_email(email.strip()))

    def send_again(self, actor: Actor) -> None:
        """Send another link to the address that waits; the former link ends.

        Raises:
            Unauthorized: nobody is signed in. NotFound: no address waits.
        """
        with self._database.write() as session:
            user = find_own(session, actor)
            mine = (MailLink.account_id == user.id, MailLink.purpose == LinkPurpose.EMAIL)
            link = session.scalar(select(MailLink).where(*mine))
            if link is None:
                raise NotFound("No address of yours waits to be verified")
            self._send(session, user, LinkPurpose.EMAIL, link.address)

    def confirm(self, code: str) -> Account:
        """The address that a link was sent to becomes its user's; all links of the user end.

        Raises:
            NotFound: the link is not known, was used or has ended.
        """
        with self._database.write() as session:
            link = self._find(session, code, LinkPurpose.EMAIL)
            user = link.account
            log_change(session, user, Event(kind="account.email", actor=user.name, data={"verified": True}))
            user.email = link.address
            end_links(session, user)
        return user

    # ------------------------------------------------------------ passwords

    def forgotten(self, named: str) -> None:
        """Send a link to choose a new password to a user, by name or verified address.

        Who asks is not told whether there is such a user, by words or by time: an event is written in either case.

        Raises:
            Forbidden: the hub sends no mail.
        """
        if not self._is_sent:
            raise Forbidden("This hub sends no mail; ask whoever runs it for a new password")
        key = named.strip().lower()
        found = select(Account).where(
            Account.kind == AccountKind.USER,
            Account.disabled.is_(False),
            Account.email.is_not(None),
            or_(Account.name_key == key, func.lower(Account.email) == key),
        )
        with self._database.write() as session:
            users = session.scalars(found.order_by(Account.id).limit(SAME_ADDRESS)).all()
            for user in users:
                self._send(session, user, LinkPurpose.PASSWORD, user.email or "")
            told = [{"name": user.name} for user in users] or [{}]
            session.add_all(Event(kind="user.forgot_password", data=data) for data in told)

    # ------------------------------------------------------------ all links

    def find(self, code: str, purpose: LinkPurpose) -> MailLink:
        """The link with this code.

        Raises:
            NotFound: it is not known, was used or has ended.
        """
        with self._database.read() as session:
            return self._find(session, code, purpose)

    def take(self, session: Session, code: str, purpose: LinkPurpose) -> Account:
        """Use a link; whose it was.

        Raises:
            NotFound: it is not known, was used or has ended.
        """
        link = self._find(session, code, purpose)
        session.delete(link)
        return link.account

    def give_address(self, session: Session, user: Account, address: str | None) -> None:
        """A stored user gives an address: a link is sent to it first, where the hub sends mail and it is a new one."""
        if self._is_sent and address is not None and address != user.email:
            self._send(session, user, LinkPurpose.EMAIL, address)
        elif address != user.email:
            log_change(session, user, Event(kind="account.email", actor=user.name, data={"verified": False}))
            user.email = address

    def code_of(self, link: MailLink) -> str:
        """What stands in the address of a link, for its mail."""
        return self._code(link.salt)

    def _send(self, session: Session, user: Account, purpose: LinkPurpose, address: str) -> None:
        end_links(session, user, purpose)
        salt = secrets.token_hex(32)
        session.add(
            MailLink(
                account_id=user.id,
                purpose=purpose,
                address=address,
                salt=salt,
                sha256=digest(self._code(salt)),
                expires_at=now() + LIFE[purpose],
                mail_at=now(),
            )
        )

    def _code(self, salt: str) -> str:
        made = hmac.digest(self._secret, f"mail link {salt}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made).decode().rstrip("=")

    @staticmethod
    def _find(session: Session, code: str, purpose: LinkPurpose) -> MailLink:
        link = session.scalar(select(MailLink).where(MailLink.sha256 == digest(code), MailLink.purpose == purpose))
        if link is None or link.expires_at <= now() or link.account.disabled:
            raise NotFound("This link is not known, was used or has ended; ask for another one")
        return link


def end_links(session: Session, user: Account, *purposes: LinkPurpose) -> None:
    """End a user's links, those of these purposes or all."""
    session.execute(delete(MailLink).where(MailLink.account_id == user.id, MailLink.purpose.in_(purposes or LIFE)))
