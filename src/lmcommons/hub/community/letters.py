"""What the hub's mail says: a letter for each thing that somebody is told by mail, in the language of its reader."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from lmcommons.hub.accounts.browser_sessions import open_sessions
from lmcommons.hub.accounts.mail_links import MailLinks
from lmcommons.hub.accounts.notices import changes
from lmcommons.hub.community.notifications import may_see
from lmcommons.hub.database.tables import (
    Account,
    BrowserSession,
    DiscussionEvent,
    Event,
    LinkPurpose,
    MailChoice,
    Mailed,
    MailLink,
    Notification,
    OrganisationInvitation,
    Reason,
    Role,
    SecurityNotice,
    now,
)
from lmcommons.hub.words import SOURCE, Words, translated

TEXT_LIMIT = 4_000  # characters of a comment that are sent
SHOWN_SESSIONS = 10  # that a notice names

ROLES = {
    Role.READ: Words("reader"),
    Role.CONTRIBUTOR: Words("contributor"),
    Role.WRITE: Words("writer"),
    Role.ADMIN: Words("admin"),
}


@dataclass(frozen=True)
class Letter:
    """One mail: `subject` and `paragraphs` are Words where the hub speaks, and text where somebody else does."""

    to: str
    language: str
    subject: str
    paragraphs: tuple[str, ...]
    footer: str
    name: str  # of this letter among all of the hub's
    thread: str | None  # of the letters that belong together
    written_at: datetime


class Letters:
    """Writes letters from what is stored."""

    def __init__(self, mail_links: MailLinks, public_url: str) -> None:
        self._mail_links = mail_links
        self._url = public_url

    def write(self, session: Session, row: Mailed) -> Letter | None:
        """The letter of a row of a queue; None when nobody is to be told any more."""
        match row:
            case SecurityNotice():
                return self._of_notice(session, row)
            case MailLink():
                return self._of_link(row)
            case OrganisationInvitation():
                return self._of_invitation(session, row)
            case Notification():
                return self._of_notification(session, row)
        return None

    def message(self, letter: Letter, sender: str) -> EmailMessage:
        """The letter as it is sent."""
        host = urlsplit(self._url).hostname
        message = EmailMessage()
        message["From"] = Address(display_name="LM Commons", addr_spec=sender)
        message["To"] = Address(addr_spec=letter.to)
        message["Subject"] = translated(letter.subject, letter.language)
        message["Date"] = format_datetime(letter.written_at)
        message["Message-ID"] = f"<{letter.name}@{host}>"
        if letter.thread is not None:
            message["In-Reply-To"] = message["References"] = f"<{letter.thread}@{host}>"
        message["Auto-Submitted"] = "auto-generated"
        paragraphs = (*letter.paragraphs, f"-- \n{translated(letter.footer, letter.language)}\n")
        message.set_content("\n\n".join(translated(each, letter.language) for each in paragraphs))
        message["Content-Language"] = letter.language
        return message

    def _of_notification(self, session: Session, row: Notification) -> Letter | None:
        user, discussion = session.get_one(Account, row.account_id), row.discussion
        if row.read or not _wants_mail(session, user) or not may_see(session, user, row.repository):
            return None
        if discussion is not None and discussion.withheld:
            return None
        subject, page, thread = row.repository.full_name, f"{self._url}/{row.repository.path}", "access"
        if discussion is not None:
            subject = f"[{subject}] {discussion.title} (#{discussion.number})"
            page, thread = f"{page}/discussions/{discussion.number}", "discussion"
        if row.reason is Reason.MODERATED:
            page = f"{self._url}/settings/decisions"
        return Letter(
            to=user.email or "",
            language=user.language or SOURCE,
            subject=subject,
            paragraphs=(Words("{said}: {subject}", said=_said(row), subject=subject), *_comment(session, row), page),
            footer=self._choice(),
            name=f"notification-{row.id}",
            thread=f"{thread}-{discussion.id if discussion is not None else row.repository_id}",
            written_at=row.created_at,
        )

    def _of_invitation(self, session: Session, row: OrganisationInvitation) -> Letter | None:
        if not _wants_mail(session, row.user):
            return None
        team, who = row.organisation.name, _name(row.inviter)
        return Letter(
            to=row.user.email or "",
            language=row.user.language or SOURCE,
            subject=Words("{who} invites you to {organisation}", who=who, organisation=team),
            paragraphs=(
                Words(
                    "{who} invites you to become a member of {organisation}, with the role “{role}”.",
                    who=who,
                    organisation=team,
                    role=ROLES[row.role],
                ),
                Words("Accept or decline here:"),
                f"{self._url}/notifications",
            ),
            footer=self._choice(),
            name=f"invitation-{row.id}-{int(row.created_at.timestamp())}",
            thread=None,
            written_at=row.created_at,
        )

    def _of_link(self, row: MailLink) -> Letter | None:
        if row.expires_at <= now() or row.account.disabled:
            return None
        code, name = self._mail_links.code_of(row), row.account.name
        if row.purpose is LinkPurpose.EMAIL:
            subject = Words("Is this your address?")
            asked = Words(
                "{name} gave this as their e-mail address. If that was you, say so here within a day:", name=name
            )
            page, footer = "settings/email/confirm", Words("If it was not you, do nothing: no other mail will come.")
        else:
            subject = Words("A new password for {name}", name=name)
            asked = Words("Choose a new password for {name} here within half an hour:", name=name)
            page = "login/new-password"
            footer = Words("If you did not ask for one, do nothing: the present password stays.")
        return Letter(
            to=row.address,
            language=row.account.language or SOURCE,
            subject=subject,
            paragraphs=(asked, f"{self._url}/{page}?code={code}"),
            footer=footer,
            name=f"link-{row.id}-{row.sha256[:16]}",
            thread=None,
            written_at=row.created_at,
        )

    def _of_notice(self, session: Session, row: SecurityNotice) -> Letter | None:
        user, told = row.account, changes(session, row)
        if user.disabled or not told:
            return None
        if row.address == user.email:
            advice = (
                Words("If it was not you, choose another password here; that signs out all browsers:"),
                f"{self._url}/login/forgotten",
                Words("Then remove the keys and tokens that are not yours, under Settings."),
            )
        else:
            advice = (
                Words("If it was not you, sign in, choose another password here, and set the address right:"),
                f"{self._url}/settings/password",
                Words(
                    "This is not the address of the account any more. If you cannot sign in, tell whoever runs the hub."
                ),
            )
        return Letter(
            to=row.address,
            language=user.language or SOURCE,
            subject=Words("A change to how {name} signs in", name=user.name),
            paragraphs=(
                Words("At {address}, this was changed for {name}:", address=self._url, name=user.name),
                *(Words("{when}: {what}", when=_minute(event.at), what=_change(event)) for event in told),
                *_signed_in(open_sessions(session, user.id)),
                Words("If it was you, there is nothing to do."),
                *advice,
            ),
            footer=Words("Such changes are always told by mail; this cannot be turned off."),
            name=f"notice-{told[-1].id}",
            thread=None,
            written_at=told[-1].at,
        )

    def _choice(self) -> Words:
        return Words(
            "You choose what you are told of, and whether by mail, at {address}", address=f"{self._url}/notifications"
        )


def _said(row: Notification) -> Words:
    """What happened."""
    who = _name(row.actor)
    return {
        Reason.MENTION: Words("{who} mentioned you", who=who),
        Reason.OPENED: Words("{who} opened this", who=who),
        Reason.REPLY: Words("{who} commented", who=who),
        Reason.REVIEW_ASKED: Words("{who} asks you for a review", who=who),
        Reason.REVIEWED: Words("{who} reviewed this", who=who),
        Reason.MERGED: Words("{who} merged this", who=who),
        Reason.CLOSED: Words("{who} closed this", who=who),
        Reason.REOPENED: Words("{who} reopened this", who=who),
        Reason.ACCESS_ASKED: Words("{who} asks for access to the files", who=who),
        Reason.ACCEPTED: Words("{who} gave you access to the files", who=who),
        Reason.REJECTED: Words("{who} did not give you access to the files", who=who),
        Reason.MODERATED: Words("An administrator decided about something of yours here"),
    }[row.reason]


def _change(event: Event) -> Words:
    """What was changed about signing in."""
    token = event.data.get("name")
    if event.actor is None:  # the operator, on the command line
        return {
            "user.password": Words("the password was changed by an administrator"),
            "two_factor.reset": Words("two-factor sign-in was turned off by an administrator"),
            "token.created": Words("the token “{name}” was made by an administrator", name=token),
        }[event.kind]
    return {
        "account.email": Words("the e-mail address was changed or removed"),
        "user.password": Words("the password was changed"),
        "two_factor.on": Words("two-factor sign-in was turned on"),
        "two_factor.off": Words("two-factor sign-in was turned off"),
        "two_factor.reset": Words("two-factor sign-in was turned off by an administrator"),
        "key.added": Words("the SSH key {fingerprint} was added", fingerprint=event.data.get("fingerprint")),
        "token.created": Words("the token “{name}” was made", name=token),
        "device.approved": Words("a program was let in, with a token of its own"),
    }[event.kind]


def _signed_in(sessions: Sequence[BrowserSession]) -> Iterator[Words]:
    """In which browsers somebody is signed in."""
    if not sessions:
        yield Words("Nobody is signed in by a browser now.")
    for each in sessions[:SHOWN_SESSIONS]:
        yield Words(
            "Signed in now: {browser}, last used {when}",
            browser=each.agent or Words("Unknown browser"),
            when=_minute(each.last_used_at or each.created_at),
        )


def _minute(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _wants_mail(session: Session, user: Account) -> bool:
    choice = session.get(MailChoice, user.id)
    return bool(user.email) and not user.disabled and (choice is None or choice.wanted)


def _name(actor: Account | None) -> str:
    return actor.name if actor is not None else Words("Somebody")


def _comment(session: Session, row: Notification) -> tuple[str, ...]:
    """What was said, as it is now; nothing where it was hidden."""
    event = session.get(DiscussionEvent, row.event_id) if row.event_id is not None else None
    if event is None or not event.versions:
        return ()
    text = event.versions[-1].text
    return (text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}…",)
