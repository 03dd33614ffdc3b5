"""Reactions to comments: a small fixed set, each at most once a user."""

from sqlalchemy import select

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.community import threads
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Discussion, DiscussionEvent, Emoji, Reaction, Repository
from lmcommons.hub.errors import BadRequest, Conflict


class Reactions:
    """The reactions of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, discussion: Discussion) -> dict[int, dict[Emoji, list[str]]]:
        """By comment and in the set's order, the names of those who reacted so, the first to do so first."""
        chosen = (
            select(Reaction.event_id, Reaction.emoji, Account.name)
            .join(Account, Account.id == Reaction.account_id)
            .join(DiscussionEvent, DiscussionEvent.id == Reaction.event_id)
            .where(DiscussionEvent.discussion_id == discussion.id)
            .order_by(Reaction.created_at, Reaction.account_id)
        )
        found: dict[int, dict[Emoji, list[str]]] = {}
        with self._database.read() as session:
            for event, emoji, name in session.execute(chosen):
                found.setdefault(event, {each: [] for each in Emoji})[emoji].append(name)
        return {event: {emoji: names for emoji, names in each.items() if names} for event, each in found.items()}

    def set(
        self, actor: Actor, repository: Repository, number: int, comment: int, emoji: str, *, given: bool
    ) -> dict[Emoji, list[str]]:
        """React to a comment, or take a reaction back; again changes nothing. Returns all reactions to the comment.

        Raises:
            BadRequest: there is no such reaction. Conflict: the comment was hidden. NotFound: no such comment.
        """
        require(actor, Action.DISCUSS, repository)
        if emoji not in list(Emoji):
            raise BadRequest("Unknown reaction {emoji!r}: one of {choices}", emoji=emoji[:20], choices=", ".join(Emoji))
        with self._database.write() as session:
            discussion = threads.find(session, repository, number)
            event = threads.find_comment(session, discussion, comment)
            key = (event.id, actor.account_id, Emoji(emoji))
            present = session.get(Reaction, key)
            if given and present is None:
                if not event.versions:
                    raise Conflict("The comment was hidden: nobody can react to it")
                session.add(Reaction(event_id=event.id, account_id=actor.account_id, emoji=Emoji(emoji)))
            elif not given and present is not None:
                session.delete(present)
            if given == (present is None):
                what = "reacted" if given else "unreacted"
                threads.record_discussion(session, what, actor, repository, discussion, comment=event.id, emoji=emoji)
        return self.of(discussion).get(comment, {})
