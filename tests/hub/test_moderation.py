"""Reports, decisions, appeals: who may take which step, and what is hidden from whom meanwhile."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from open_rooms import open_rooms
from sqlalchemy import select

from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor
from lmcommons.hub.community import reports
from lmcommons.hub.community.discussions import Listing as Discussions
from lmcommons.hub.database.tables import CaseStatus, Event, Repository, RepositoryType, Role
from lmcommons.hub.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    RepositoryNotFound,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.rooms import Hub

MODEL = RepositoryType.MODEL


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    opened = open_rooms(tmp_path_factory.mktemp("moderation") / "hub")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def person(hub: Hub) -> Callable[..., Actor]:
    """Makes a user with a new name."""

    def make(**more: bool) -> Actor:
        return hub.tokens.actor(hub.accounts.add_user(f"u{secrets.token_hex(4)}", **more))

    return make


@pytest.fixture(scope="module")
def operators(person: Callable[..., Actor]) -> tuple[Actor, Actor]:
    """Two administrators of the hub."""
    return person(admin=True), person(admin=True)


@pytest.fixture
def repository(hub: Hub, person: Callable[..., Actor]) -> tuple[Actor, Repository]:
    """A public model, and its owner."""
    owner = person()
    made = hub.repositories.create(owner, MODEL, None, "m")
    hub.commits.refresh(made)
    return owner, made


def found(hub: Hub, actor: Actor, name: str) -> Repository:
    return hub.repositories.find(actor, MODEL, name, Action.READ)


def names(hub: Hub, actor: Actor, author: str | None) -> list[str]:
    return [each.full_name for each in hub.search.listing(actor, MODEL, Listing(author=author))[0]]


def test_a_hidden_repository_is_absent_to_all_but_its_owner_and_moderators(hub, person, operators, repository):
    owner, made = repository
    stranger, (first, _) = person(), operators
    hub.repositories.link_objects(made.id, {"0" * 64: 3})
    case = hub.reports.report(stranger, made, "malware")
    assert found(hub, stranger, made.full_name).id == made.id  # a report alone hides nothing
    hub.moderation.decide(first, case.id, hide=True, note="it is malware")
    for nobody in (stranger, ANONYMOUS):
        with pytest.raises(RepositoryNotFound):
            found(hub, nobody, made.full_name)
        assert names(hub, nobody, owner.name) == []
        assert hub.repositories.known_objects(nobody, ["0" * 64]) == {}
    for known in (owner, first):
        assert found(hub, known, made.full_name).hidden
        assert names(hub, known, owner.name) == [made.full_name]
    assert hub.moderation.hiding(made).id == case.id
    hub.moderation.restore(first, case.id, note="a false alarm")
    assert not found(hub, ANONYMOUS, made.full_name).hidden
    assert hub.moderation.hiding(made) is None


def test_of_an_organisations_hidden_repository_only_those_who_manage_it_know(hub, person, operators):
    reader, writer = person(), person()
    team = f"t{secrets.token_hex(4)}"
    hub.organisations.add(team, members=[(reader.name, Role.READ), (writer.name, Role.WRITE)])
    reader, writer = (hub.tokens.actor(hub.tokens.add(who.name, "t", "write")) for who in (reader, writer))
    made = hub.repositories.create(writer, MODEL, team, "m")
    case = hub.reports.report(reader, made, "spam")
    hub.moderation.decide(operators[0], case.id, hide=True, note="spam")
    with pytest.raises(RepositoryNotFound):
        found(hub, reader, made.full_name)
    assert found(hub, writer, made.full_name).hidden
    assert hub.moderation.find(writer, case.id).note == "spam"
    with pytest.raises(NotFound):
        hub.moderation.find(reader, case.id)


def test_a_hidden_comment_has_no_text_until_it_is_restored(hub, person, operators, repository):
    owner, made = repository
    author = person()
    thread = hub.discussions.open(author, made, "A title", "a bad word")
    line = hub.discussions.events(thread)[0]
    hub.discussions.edit(author, made, thread.number, line.id, "a worse word")
    case = hub.reports.report(owner, made, "insult", number=thread.number, comment=line.id)
    assert hub.moderation.text(operators[0], case) == "a worse word"
    hub.moderation.decide(operators[0], case.id, hide=True, note="be kind")
    assert hub.discussions.events(thread)[0].versions == []
    assert hub.moderation.text(operators[0], case) == "a worse word"
    with pytest.raises(Conflict):
        hub.discussions.edit(author, made, thread.number, line.id, "another")
    hub.moderation.restore(operators[1], case.id, note="")
    assert [each.text for each in hub.discussions.events(thread)[0].versions] == ["a bad word", "a worse word"]


def test_a_hidden_discussion_is_not_found(hub, person, operators, repository):
    owner, made = repository
    thread = hub.discussions.open(person(), made, "Buy my watches", "cheap")
    case = hub.reports.report(owner, made, "spam", number=thread.number)
    assert hub.moderation.text(operators[0], case) == "Buy my watches"
    hub.moderation.decide(operators[0], case.id, hide=True, note="spam")
    with pytest.raises(NotFound):
        hub.discussions.find(made, thread.number)
    found, counts = hub.discussions.listing(made, Discussions())
    assert (found, set(counts.values())) == ([], {0})
    hub.moderation.restore(operators[0], case.id, note="")
    assert hub.discussions.find(made, thread.number).title == "Buy my watches"


def test_a_hidden_person_cannot_sign_in_and_an_organisation_is_not_hidden(hub, person, operators):
    reporter, spammer = person(), hub.accounts.add_user(name := f"u{secrets.token_hex(4)}")
    case = hub.reports.report_account(reporter, name, "spam everywhere")
    hub.moderation.decide(operators[0], case.id, hide=True, note="spam")
    with pytest.raises(Unauthorized):
        hub.tokens.actor(spammer)
    hub.moderation.restore(operators[0], case.id, note="")
    assert hub.tokens.actor(spammer).name == name
    team = f"t{secrets.token_hex(4)}"
    hub.organisations.add(team)
    case = hub.reports.report_account(reporter, team, "spam")
    with pytest.raises(BadRequest, match="is an organisation"):
        hub.moderation.decide(operators[0], case.id, hide=True, note="spam")
    hub.moderation.decide(operators[0], case.id, hide=False, note="")


def test_an_appeal_is_decided_once_by_somebody_else(hub, person, operators, repository):
    (owner, made), (first, second) = repository, operators
    case = hub.reports.report(person(), made, "spam")
    with pytest.raises(Conflict):
        hub.moderation.appeal(owner, case.id, "not yet hidden")
    hub.moderation.decide(first, case.id, hide=True, note="spam")
    with pytest.raises(NotFound):
        hub.moderation.appeal(person(), case.id, "not mine")
    hub.moderation.appeal(owner, case.id, "it is research")
    with pytest.raises(Conflict, match="once"):
        hub.moderation.appeal(owner, case.id, "again")
    with pytest.raises(Conflict):
        hub.moderation.restore(first, case.id, note="")
    with pytest.raises(Forbidden, match="another administrator"):
        hub.moderation.decide_appeal(first, case.id, restore=False, note="no")
    assert hub.moderation.decide_appeal(second, case.id, restore=False, note="it is spam").status is CaseStatus.UPHELD
    with pytest.raises(Conflict):
        hub.moderation.appeal(owner, case.id, "again")
    assert [each.id for each in hub.moderation.about(owner)] == [case.id]


def test_an_appeal_that_succeeds_shows_the_repository_again(hub, person, operators, repository):
    (owner, made), (first, second) = repository, operators
    case = hub.reports.report(person(), made, "spam")
    hub.moderation.decide(first, case.id, hide=True, note="spam")
    hub.moderation.appeal(owner, case.id, "it is research")
    hub.moderation.decide_appeal(second, case.id, restore=True, note="it is")
    assert found(hub, ANONYMOUS, made.full_name).id == made.id
    again = hub.reports.report(person(), made, "spam after all")
    assert again.id != case.id


def test_with_one_administrator_an_appeal_waits(hub, person, operators, repository):
    (owner, made), (first, second) = repository, operators
    case = hub.reports.report(person(), made, "spam")
    case = hub.moderation.decide(first, case.id, hide=True, note="spam")
    others = hub.moderation.deciders(case)
    assert others >= 1
    hub.accounts.change_user(second.name, admin=False)
    assert hub.moderation.deciders(case) == others - 1
    hub.moderation.appeal(owner, case.id, "please")
    assert case.id in {each.id for each in hub.moderation.queue(first)[0]}
    hub.accounts.change_user(second.name, admin=True)


def test_nobody_decides_about_what_is_their_own(hub, person, operators):
    first, second = operators
    made = hub.repositories.create(first, MODEL, None, f"m{secrets.token_hex(4)}")
    case = hub.reports.report(person(), made, "spam")
    with pytest.raises(Forbidden, match="their own"):
        hub.moderation.decide(first, case.id, hide=False, note="")
    hub.moderation.decide(second, case.id, hide=True, note="spam")
    with pytest.raises(Forbidden, match="their own"):
        hub.moderation.restore(first, case.id, note="")


def test_only_administrators_with_all_their_rights_look_and_decide(hub, person, operators, repository):
    owner, made = repository
    case = hub.reports.report(person(), made, "spam")
    reading = operators[0].reading
    for nobody in (owner, ANONYMOUS, reading):
        for forbidden in (
            lambda who: hub.moderation.queue(who),
            lambda who: hub.moderation.decide(who, case.id, hide=True, note="x"),
            lambda who: hub.moderation.text(who, case),
        ):
            with pytest.raises(Forbidden):
                forbidden(nobody)
        with pytest.raises(NotFound):  # who was reported does not learn it before a decision
            hub.moderation.find(nobody, case.id)
    listed, total = hub.moderation.queue(operators[0])
    assert case.id in {each.id for each in listed}
    assert total == len(listed)


def test_reports_of_one_thing_are_one_case_and_bad_ones_are_refused(hub, person, repository, monkeypatch):
    _, made = repository
    reporter, other = person(), person()
    case = hub.reports.report(reporter, made, "spam")
    assert hub.reports.report(other, made, "spam indeed").id == case.id
    with pytest.raises(Conflict, match="already"):
        hub.reports.report(reporter, made, "again")
    with pytest.raises(Unauthorized):
        hub.reports.report(ANONYMOUS, made, "spam")
    with pytest.raises(Forbidden):
        hub.reports.report(person().reading, made, "spam")
    with pytest.raises(BadRequest):
        hub.reports.report(person(), made, "  ")
    with pytest.raises(TooLarge):
        hub.reports.report(person(), made, "x" * 5000)
    with pytest.raises(NotFound):
        hub.reports.report(person(), made, "spam", number=99)
    monkeypatch.setattr(reports, "REPORTS_LIMIT", 1)
    with pytest.raises(TooManyRequests):
        hub.reports.report_account(reporter, other.name, "spam")


def test_nobody_reports_what_they_may_not_see(hub, person):
    made = hub.repositories.create(person(), MODEL, None, "m", private=True)
    with pytest.raises(RepositoryNotFound):
        hub.reports.report(person(), made, "guess")


def test_the_author_is_told_of_decisions_and_by_nobodys_name(hub, person, operators, repository):
    (owner, made), (first, second) = repository, operators
    author = person()
    thread = hub.discussions.open(author, made, "A title", "a bad word")
    line = hub.discussions.events(thread)[0]
    for case, actor in (
        (hub.reports.report(person(), made, "spam", number=thread.number, comment=line.id), author),
        (hub.reports.report(person(), made, "spam"), owner),
    ):
        before = hub.notifications.unread(actor)
        hub.moderation.decide(first, case.id, hide=True, note="spam")
        hub.moderation.appeal(actor, case.id, "no")
        hub.moderation.decide_appeal(second, case.id, restore=True, note="no")
        assert hub.notifications.unread(actor) == before + 2
        newest = hub.notifications.threads(actor)[0].last
        assert (newest.reason, newest.actor) == ("moderated", None)
    dismissed = hub.reports.report(person(), made, "spam")
    hub.notifications.mark(owner)
    hub.moderation.decide(first, dismissed.id, hide=False, note="")
    assert hub.notifications.unread(owner) == 0


def test_every_step_is_in_the_log(hub, person, operators, repository):
    (owner, made), (first, second) = repository, operators
    reporter = person()
    case = hub.reports.report(reporter, made, "spam")
    hub.moderation.decide(first, case.id, hide=True, note="spam")
    hub.moderation.appeal(owner, case.id, "no")
    hub.moderation.decide_appeal(second, case.id, restore=False, note="yes")
    hub.moderation.restore(first, case.id, note="")
    with hub.database.read() as session:
        told = select(Event).where(Event.repository_id == made.id, Event.kind.startswith("moderation."))
        rows = session.scalars(told.order_by(Event.id)).all()
    assert [(row.kind, row.actor) for row in rows] == [
        ("moderation.reported", reporter.name),
        ("moderation.decided", first.name),
        ("moderation.appealed", owner.name),
        ("moderation.appeal_decided", second.name),
        ("moderation.restored", first.name),
    ]
    assert rows[-1].data == {"case": case.id, "kind": "repository", "name": made.path, "status": "restored"}
