"""Who may do what: every actor with every token, towards every kind of repository, in Python and in SQL alike."""

from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import select

from lmcommons.hub.accounts.permissions import (
    ANONYMOUS,
    RIGHTS,
    Action,
    Actor,
    Scopes,
    allowed,
    readable,
    require,
    visible,
)
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Gate, Repository, RepositoryType, Role, TokenRole
from lmcommons.hub.errors import Forbidden, GatedRepository, RepositoryNotFound, Unauthorized
from lmcommons.hub.settings import Settings

LOOK = {Action.SEE, Action.READ}
WORK = set(Action) - {Action.ADMINISTER}
OWNER, CREATOR, STRANGER, ORGANISATION = 1, 2, 3, 9
PRIVATE, GATED = 7, 8  # repositories


def repository(
    *, owner: int = OWNER, private: bool = False, gated: Gate = Gate.NONE, hidden: bool = False, id_: int = 5
) -> Repository:
    account = Account(id=owner, name="owner", name_key="owner")
    return Repository(
        id=id_,
        type=RepositoryType.MODEL,
        account=account,
        account_id=owner,
        creator_id=CREATOR,
        name="m",
        private=private,
        gated=gated,
        hidden=hidden,
    )


def member(
    account_id: int,
    role: Role | None = None,
    *,
    token: TokenRole = TokenRole.WRITE,
    admin: bool = False,
    granted: frozenset[int] = frozenset(),
    scopes: Scopes | None = None,
) -> Actor:
    roles = {ORGANISATION: role} if role else {}
    token = TokenRole.FINE_GRAINED if scopes else token
    return Actor(account_id, f"user{account_id}", admin, token, "laptop", roles, granted, scopes or Scopes())


def may(actor: Actor, target: Repository | Account) -> set[Action]:
    return {action for action in Action if allowed(actor, action, target)}


@pytest.mark.parametrize(
    ("actor", "private", "expected"),
    [
        (ANONYMOUS, False, LOOK),
        (ANONYMOUS, True, set()),
        (member(STRANGER), False, {*LOOK, Action.DISCUSS}),
        (member(STRANGER), True, set()),
        (member(STRANGER, Role.READ), True, {*LOOK, Action.DISCUSS}),
        (member(STRANGER, Role.CONTRIBUTOR), True, {*LOOK, Action.DISCUSS, Action.CREATE}),
        (member(CREATOR, Role.CONTRIBUTOR), True, WORK),
        (member(STRANGER, Role.WRITE), True, WORK),
        (member(STRANGER, Role.ADMIN), True, set(Action)),
        (member(STRANGER, Role.ADMIN, token=TokenRole.READ), True, LOOK),
        (member(STRANGER, admin=True), True, set(Action)),
    ],
)
def test_what_each_role_may_do_in_an_organisations_repository(actor, private, expected):
    assert may(actor, repository(owner=ORGANISATION, private=private)) == expected


def test_owners_do_everything_and_their_read_tokens_only_read():
    private = repository(private=True)
    assert may(member(OWNER), private) == set(Action)
    assert may(member(OWNER, token=TokenRole.READ), private) == LOOK


def test_leaving_an_organisation_takes_the_creators_rights_away():
    assert not allowed(member(CREATOR), Action.WRITE, repository(owner=ORGANISATION))


@pytest.mark.parametrize("gate", [Gate.AUTO, Gate.MANUAL])
@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (ANONYMOUS, {Action.SEE}),
        (member(STRANGER), {Action.SEE, Action.DISCUSS}),
        (member(STRANGER, granted=frozenset({GATED})), {*LOOK, Action.DISCUSS}),
        (member(STRANGER, granted=frozenset({GATED}), token=TokenRole.READ), LOOK),
        (member(STRANGER, granted=frozenset({PRIVATE})), {Action.SEE, Action.DISCUSS}),
        (member(STRANGER, Role.READ), {*LOOK, Action.DISCUSS}),
        (member(STRANGER, admin=True), set(Action)),
        (member(STRANGER, granted=frozenset({GATED}), scopes=Scopes()), {Action.SEE}),
        (member(STRANGER, granted=frozenset({GATED}), scopes=Scopes({GATED: Action.READ})), LOOK),
        (member(STRANGER, scopes=Scopes({GATED: Action.MANAGE})), {Action.SEE, Action.DISCUSS}),
    ],
)
def test_files_of_a_gated_repository_are_for_members_and_for_those_who_were_let_in(actor, expected, gate):
    assert may(actor, repository(owner=ORGANISATION, gated=gate, id_=GATED)) == expected


def test_leave_to_read_a_gated_repository_ends_when_it_becomes_private():
    hidden = repository(private=True, gated=Gate.AUTO, id_=GATED)
    assert may(member(STRANGER, granted=frozenset({GATED})), hidden) == set()


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (ANONYMOUS, set()),
        (member(STRANGER), set()),
        (member(STRANGER, granted=frozenset({GATED})), set()),
        (member(STRANGER, Role.READ), set()),
        (member(STRANGER, Role.CONTRIBUTOR), set()),
        (member(CREATOR), set()),
        (member(CREATOR, Role.READ), set()),
        (member(CREATOR, Role.CONTRIBUTOR), WORK),
        (member(STRANGER, Role.WRITE), WORK),
        (member(STRANGER, Role.WRITE, token=TokenRole.READ), LOOK),
        (member(STRANGER, admin=True), set(Action)),
    ],
)
def test_what_moderators_hid_is_there_for_those_who_manage_it(actor, expected, private):
    assert may(actor, repository(owner=ORGANISATION, private=private, hidden=True, id_=GATED)) == expected


@pytest.mark.parametrize(("right", "included"), RIGHTS.items())
def test_a_fine_grained_token_does_what_its_scope_says_there_and_nothing_elsewhere(right, included):
    mine, other = repository(private=True, id_=PRIVATE), repository(private=True, id_=6)
    by_repository = member(OWNER, scopes=Scopes({PRIVATE: right}))
    assert may(by_repository, mine) == set(included)
    assert may(by_repository, other) == set()
    assert may(by_repository, other.account) == set()
    assert may(by_repository, repository(owner=ORGANISATION)) == LOOK  # as everybody
    by_namespace = member(OWNER, scopes=Scopes({}, {OWNER: right}))
    assert may(by_namespace, mine) == may(by_namespace, other) == may(by_namespace, mine.account) == set(included)


def test_a_scope_gives_no_right_that_the_account_has_not():
    assert (
        may(member(STRANGER, scopes=Scopes({5: Action.MANAGE}, {OWNER: Action.MANAGE})), repository(private=True))
        == set()
    )
    assert may(
        member(STRANGER, Role.READ, scopes=Scopes({}, {ORGANISATION: Action.MANAGE})), repository(owner=ORGANISATION)
    ) == {*LOOK, Action.DISCUSS}


def test_a_refusal_does_not_tell_that_a_private_repository_exists():
    with pytest.raises(RepositoryNotFound):
        require(member(STRANGER), Action.WRITE, repository(private=True))
    with pytest.raises(RepositoryNotFound):
        require(member(OWNER, scopes=Scopes({6: Action.MANAGE})), Action.READ, repository(private=True))
    with pytest.raises(Unauthorized):
        require(ANONYMOUS, Action.WRITE, repository())
    with pytest.raises(Forbidden, match="user3 may not write"):
        require(member(STRANGER), Action.WRITE, repository())
    with pytest.raises(Forbidden, match="Token 'laptop' of user1 can only read"):
        require(member(OWNER, token=TokenRole.READ), Action.WRITE, repository())
    with pytest.raises(Forbidden, match="Token 'laptop' of user1 is fine-grained and has no scope to manage"):
        require(member(OWNER, scopes=Scopes({5: Action.WRITE})), Action.MANAGE, repository())


@pytest.mark.parametrize(("actor", "status"), [(ANONYMOUS, 401), (member(STRANGER), 403)])
def test_a_closed_gate_says_how_to_get_in(actor, status):
    with pytest.raises(GatedRepository, match="Access to model owner/m is restricted") as refused:
        require(actor, Action.READ, repository(gated=Gate.MANUAL))
    assert (refused.value.status, refused.value.code) == (status, "GatedRepo")


def test_what_lists_show_is_what_the_rule_allows(tmp_path: Path):
    database = Database(Settings.make(tmp_path))
    with database.write() as session:
        for id_, kind in ((1, "user"), (2, "user"), (3, "user"), (9, "organisation")):
            session.add(Account(id=id_, kind=AccountKind(kind), name=f"a{id_}", name_key=f"a{id_}", fullname=""))
        session.flush()
        cases = product((1, 9), (False, True), Gate, (False, True))
        for number, (owner, private, gate, hidden) in enumerate(cases, start=1):
            session.add(
                Repository(
                    id=number,
                    type=RepositoryType.MODEL,
                    account_id=owner,
                    creator_id=2,
                    name=f"r{number}",
                    name_key=f"r{number}",
                    private=private,
                    gated=gate,
                    hidden=hidden,
                )
            )
    some = frozenset({2, 5, 8, 11})
    scopes = [None, Scopes(), Scopes({2: Action.READ, 4: Action.MANAGE}), Scopes({}, {9: Action.WRITE})]
    actors = [ANONYMOUS] + [
        member(account, role, token=token, admin=admin, granted=granted, scopes=scope)
        for account, role, token, admin, granted, scope in product(
            (1, 2, 3), (None, *Role), (TokenRole.READ, TokenRole.WRITE), (False, True), (frozenset(), some), scopes
        )
    ]
    with database.read() as session:
        rows = list(session.scalars(select(Repository)))
        for actor in actors:
            for condition, action in ((visible(actor), Action.SEE), (readable(actor), Action.READ)):
                listed = set(session.scalars(select(Repository.id).where(condition)))
                assert listed == {row.id for row in rows if allowed(actor, action, row)}, (actor, action)
