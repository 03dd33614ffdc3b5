"""Invitations to organisations: who invites, who answers, and what comes of it."""

from datetime import timedelta
from pathlib import Path

import pytest
from open_rooms import open_rooms
from sqlalchemy import update

from lmcommons.hub.accounts import organisation_invitations
from lmcommons.hub.accounts.organisation_invitations import DECLINED, PAUSE
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.tables import Event, RepositoryType, Role, TokenRole, now
from lmcommons.hub.errors import Conflict, Forbidden, NotFound, Unauthorized
from lmcommons.hub.operating.departures import delete_user
from lmcommons.hub.rooms import Hub


class World:
    """A hub with a team that ada administers; ben writes in it, eve does not belong to it."""

    def __init__(self, data: Path) -> None:
        self.hub: Hub = open_rooms(data)
        for name in ("ada", "ben", "eve"):
            self.hub.accounts.add_user(name)
        self.hub.organisations.add("team", members=[("ada", Role.ADMIN), ("ben", Role.WRITE)])
        self.room = self.hub.organisation_invitations

    def actor(self, name: str, role: TokenRole = TokenRole.WRITE) -> Actor:
        """The user with the roles of now."""
        return self.hub.tokens.actor(self.hub.tokens.add(name, "t", role))

    def waiting(self, name: str) -> list[tuple[str, Role]]:
        return [(each.organisation.name, each.role) for each in self.room.of_user(self.actor(name))]

    def members(self) -> dict[str, Role]:
        return {each.name: role for each, role in self.hub.organisations.members(self.hub.accounts.find("team").id)}

    def log(self) -> list[tuple[str, str | None]]:
        told = self.hub.organisations.membership_log(self.actor("ada"), "team")
        return [(event.kind.removeprefix("organisation."), event.actor) for event in told]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nobody_is_a_member_who_has_not_accepted(world: World):
    world.room.invite(world.actor("ada"), "TEAM", "Eve", Role.WRITE)
    assert world.waiting("eve") == [("team", Role.WRITE)]
    assert "eve" not in world.members()
    with pytest.raises(Forbidden):
        world.hub.commits.create_repository(world.actor("eve"), RepositoryType.MODEL, "team", "m")
    assert world.hub.notifications.unread(world.actor("eve")) == 1
    world.room.answer(world.actor("eve"), "team", accept=True)
    assert (world.members()["eve"], world.waiting("eve")) == (Role.WRITE, [])
    assert world.hub.notifications.unread(world.actor("eve")) == 0
    world.hub.commits.create_repository(world.actor("eve"), RepositoryType.MODEL, "team", "m")
    assert world.log()[:2] == [("member", "eve"), ("invited", "ada")]


def test_an_invitation_that_was_declined_may_come_again_after_a_month(world: World):
    world.room.invite(world.actor("ada"), "team", "eve", Role.READ)
    world.room.answer(world.actor("eve"), "team", accept=False)
    assert (world.waiting("eve"), "eve" in world.members()) == ([], False)
    with pytest.raises(NotFound):
        world.room.answer(world.actor("eve"), "team", accept=True)
    event, *_ = world.hub.organisations.membership_log(world.actor("ada"), "team")
    first = f"{event.at + timedelta(days=30):%Y-%m-%d}"
    with pytest.raises(Conflict, match=f"eve declined an invitation to team, and can be invited again after {first}"):
        world.room.invite(world.actor("ada"), "Team", "Eve", Role.ADMIN)
    world.hub.organisations.add("others", members=[("ada", Role.ADMIN)])
    world.room.invite(world.actor("ada"), "others", "eve", Role.READ)
    with world.hub.database.write() as session:
        session.execute(update(Event).where(Event.kind == DECLINED).values(at=now() - PAUSE))
    world.room.invite(world.actor("ada"), "team", "eve", Role.ADMIN)
    assert world.waiting("eve") == [("team", Role.ADMIN), ("others", Role.READ)]
    assert world.log()[:2] == [("invited", "ada"), ("declined", "eve")]


def test_an_invitation_is_taken_back(world: World):
    world.room.invite(world.actor("ada"), "team", "eve", Role.READ)
    assert [each.user.name for each in world.room.of_organisation(world.actor("ada"), "team")] == ["eve"]
    world.room.withdraw(world.actor("ada"), "team", "eve")
    with pytest.raises(NotFound, match="may have been taken back"):
        world.room.answer(world.actor("eve"), "team", accept=True)
    with pytest.raises(NotFound):
        world.room.withdraw(world.actor("ada"), "team", "eve")
    assert world.log()[0] == ("withdrawn", "ada")


def test_only_who_administers_invites_sees_and_takes_back_and_only_who_is_invited_answers(world: World):
    world.room.invite(world.actor("ada"), "team", "eve", Role.READ)
    for other, refusal in (
        (world.actor("ben"), Forbidden),
        (world.actor("eve"), Forbidden),
        (world.actor("ada", TokenRole.READ), Forbidden),
        (ANONYMOUS, Unauthorized),
    ):
        with pytest.raises(refusal):
            world.room.invite(other, "team", "ben", Role.ADMIN)
        with pytest.raises(refusal):
            world.room.withdraw(other, "team", "eve")
        with pytest.raises(refusal):
            world.room.of_organisation(other, "team")
    for other, refusal in (
        (world.actor("ben"), NotFound),
        (world.actor("ada"), NotFound),
        (world.actor("eve", TokenRole.READ), Forbidden),
        (ANONYMOUS, Unauthorized),
    ):
        with pytest.raises(refusal):
            world.room.answer(other, "team", accept=True)
    assert world.waiting("eve") == [("team", Role.READ)]
    assert world.room.of_user(ANONYMOUS) == []


def test_who_cannot_be_invited_is_said_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch):
    ada = world.actor("ada")
    world.room.invite(ada, "team", "eve", Role.READ)
    for user, error, said in (
        ("nobody", NotFound, "No such user: nobody"),
        ("team", NotFound, "No such user: team"),
        ("ben", Conflict, "ben is a member of team already"),
        ("eve", Conflict, "eve is invited to team already"),
    ):
        with pytest.raises(error, match=said):
            world.room.invite(ada, "team", user, Role.WRITE)
    monkeypatch.setattr(organisation_invitations, "WAITING_LIMIT", 1)
    world.hub.accounts.add_user("zoe")
    with pytest.raises(Conflict, match="1 invitations to team wait"):
        world.room.invite(ada, "team", "zoe", Role.READ)


def test_who_is_added_by_program_needs_no_invitation_any_more(world: World):
    ada = world.actor("ada")
    world.room.invite(ada, "team", "eve", Role.ADMIN)
    world.hub.organisations.set_member(ada, "team", "eve", Role.READ)
    assert (world.waiting("eve"), world.members()["eve"]) == ([], Role.READ)


def test_in_pages_a_role_is_given_to_members_alone(world: World):
    ada = world.actor("ada")
    with pytest.raises(NotFound, match="eve is no member of team"):
        world.hub.organisations.set_member(ada, "team", "eve", Role.READ, joining=False)
    world.hub.organisations.set_member(ada, "team", "ben", Role.READ, joining=False)
    assert world.members() == {"ada": Role.ADMIN, "ben": Role.READ}


def test_an_invitation_outlives_the_account_of_who_invited_and_not_that_of_who_is_invited(world: World):
    world.hub.accounts.add_user("zoe")
    world.hub.organisations.set_member(None, "team", "ben", Role.ADMIN)
    for invited in ("eve", "zoe"):
        world.room.invite(world.actor("ben"), "team", invited, Role.READ)
    delete_user(world.hub, "ben")
    delete_user(world.hub, "zoe")
    [left] = world.room.of_organisation(world.actor("ada"), "team")
    assert (left.user.name, left.inviter) == ("eve", None)
