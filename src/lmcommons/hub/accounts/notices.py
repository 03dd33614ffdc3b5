"""Security notices: whoever's sign-in changes is told so by mail.

What happened stands in the log of events. A notice is a row in the queue of mail, one of an account, that says since
when and to which address: that of before the first change, which nobody can have given who came in by the change.
"""

from collections.abc import Sequence

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import Account, Event, SecurityNotice, now

RESET = "two_factor.reset"  # by an administrator; all others are the user's own, or the operator's
KINDS = (
    *("account.email", "user.password", "two_factor.on", "two_factor.off", "key.added", "token.created"),
    "device.approved",
)


def log_change(session: Session, user: Account, event: Event) -> None:
    """Log a change to how `user` signs in, and tell the address that the user has until then."""
    event.at = now()
    session.add(event)
    its = SecurityNotice.account_id == user.id
    notice = session.scalar(select(SecurityNotice).where(its))
    if notice is not None and notice.mail_at is not None:
        notice.mail_at = event.at  # what was on its way goes with this change too, or once more
    elif user.email is not None:
        session.execute(delete(SecurityNotice).where(its))
        session.add(SecurityNotice(account_id=user.id, address=user.email, created_at=event.at, mail_at=event.at))


def changes(session: Session, notice: SecurityNotice) -> Sequence[Event]:
    """What a notice tells, the first first."""
    user = notice.account
    theirs = or_(
        and_(Event.actor == user.name, Event.kind.in_(KINDS)),
        and_(Event.name_key == user.name_key, Event.kind.in_((RESET, "user.password"))),
        and_(Event.data["user"].as_string() == user.name, Event.kind == "token.created"),
    )
    return session.scalars(select(Event).where(Event.at >= notice.created_at, theirs).order_by(Event.id)).all()
