"""The second factor of sign-in: codes of an authenticator, recovery codes, and the waits after wrong ones."""

import secrets
import time
from collections.abc import Iterator
from datetime import timedelta

import pyotp
import pytest
from open_rooms import open_rooms
from sqlalchemy import select, update

from lmcommons.hub.accounts.browser_sessions import session_id, short_agent
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.accounts.sign_in import SecondStep
from lmcommons.hub.accounts.two_factor import FREE_FAILURES, STEP, TwoFactors
from lmcommons.hub.database.tables import Event, Table, TwoFactor, now
from lmcommons.hub.errors import Conflict, NotFound, TooManyRequests, Unauthorized
from lmcommons.hub.rooms import Hub

PASSWORD = "correct horse battery"
NOW = 1_800_000_000  # seconds; the beginning of a step


class Clock:
    """The time that the hub takes for the present, in seconds."""

    def __init__(self) -> None:
        self.time = float(NOW)

    def __call__(self) -> float:
        return self.time


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    opened = open_rooms(tmp_path_factory.mktemp("two-factor") / "hub")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factors(hub: Hub, clock: Clock) -> TwoFactors:
    """The second factors of the hub at a time of the test's."""
    return TwoFactors(hub.database, hub.secret, clock)


@pytest.fixture
def actor(hub: Hub) -> Actor:
    """A new user with a password."""
    name = f"u{secrets.token_hex(4)}"
    token = hub.accounts.add_user(name)
    hub.sign_in.set_password(name, PASSWORD)
    return hub.tokens.actor(token)


@pytest.fixture
def authenticator(factors: TwoFactors, actor: Actor) -> pyotp.TOTP:
    """What the user's authenticator shows; the second factor is on, and the code of the step before was used."""
    made = pyotp.TOTP(factors.begin(actor).secret)
    factors.confirm(actor, made.at(NOW - STEP))
    return made


def own_id(actor: Actor) -> int:
    assert actor.account_id is not None
    return actor.account_id


def test_an_authenticator_reads_the_secret_from_the_address_and_turns_the_second_factor_on(
    factors: TwoFactors, actor: Actor
):
    begun = factors.begin(actor)
    assert not factors.is_on(own_id(actor))
    shown = pyotp.parse_uri(begun.uri)
    assert (shown.name, shown.issuer, shown.secret) == (actor.name, "LM Commons", begun.secret)
    with pytest.raises(Unauthorized):
        factors.confirm(actor, "000000")
    codes = factors.confirm(actor, shown.at(NOW))
    assert factors.is_on(own_id(actor))
    assert len(set(codes)) == factors.recovery_codes_left(own_id(actor)) == 10
    with pytest.raises(Conflict):
        factors.begin(actor)


def test_a_code_works_once_and_for_a_step_before_and_after(
    factors: TwoFactors, actor: Actor, authenticator: pyotp.TOTP, clock: Clock
):
    for late in (NOW - STEP, NOW - 2 * STEP, NOW + 2 * STEP):
        with pytest.raises(Unauthorized):
            factors.check(own_id(actor), authenticator.at(late))
    factors.check(own_id(actor), f" {authenticator.at(NOW)[:3]} {authenticator.at(NOW)[3:]}")
    with pytest.raises(Unauthorized, match="used before"):
        factors.check(own_id(actor), authenticator.at(NOW))
    factors.check(own_id(actor), authenticator.at(NOW + STEP))
    clock.time += STEP
    with pytest.raises(Unauthorized):
        factors.check(own_id(actor), authenticator.at(NOW))
    factors.check(own_id(actor), authenticator.at(NOW + 2 * STEP))


def test_wrong_codes_make_the_next_one_wait_but_not_a_recovery_code(
    hub: Hub, factors: TwoFactors, actor: Actor, authenticator: pyotp.TOTP
):
    codes = factors.renew_recovery_codes(actor, authenticator.at(NOW))
    right = authenticator.at(NOW + STEP)
    for _ in range(FREE_FAILURES):
        with pytest.raises(Unauthorized):
            factors.check(own_id(actor), "not a code")
    with pytest.raises(TooManyRequests) as told:
        factors.check(own_id(actor), right)
    assert 0 < int(told.value.headers["Retry-After"]) <= 61
    factors.check(own_id(actor), codes[0])
    factors.check(own_id(actor), right)


def test_a_wait_ends_and_the_next_is_longer(hub: Hub, factors: TwoFactors, actor: Actor, authenticator: pyotp.TOTP):
    waits = []
    for _ in range(FREE_FAILURES + 1):
        with hub.database.write() as session:
            session.execute(update(TwoFactor).values(next_at=now() - timedelta(seconds=1)))
        with pytest.raises(Unauthorized):
            factors.check(own_id(actor), "123")
        with hub.database.read() as session:
            waits.append((session.get_one(TwoFactor, own_id(actor)).next_at or now()) - now())
    assert timedelta(seconds=50) < waits[-2] < timedelta(seconds=61) < waits[-1] < timedelta(seconds=121)


def test_a_recovery_code_works_once_and_new_ones_end_the_old(
    factors: TwoFactors, actor: Actor, authenticator: pyotp.TOTP
):
    first = factors.renew_recovery_codes(actor, authenticator.at(NOW))
    factors.check(own_id(actor), first[3].upper().replace("-", " "))
    with pytest.raises(Unauthorized):
        factors.check(own_id(actor), first[3])
    assert factors.recovery_codes_left(own_id(actor)) == 9
    second = factors.renew_recovery_codes(actor, first[4])
    with pytest.raises(Unauthorized):
        factors.check(own_id(actor), first[5])
    factors.check(own_id(actor), second[5])


def test_a_recovery_code_of_somebody_else_is_wrong(hub: Hub, factors: TwoFactors, actor: Actor, authenticator):
    codes = factors.renew_recovery_codes(actor, authenticator.at(NOW))
    other = hub.tokens.actor(hub.accounts.add_user(f"u{secrets.token_hex(4)}"))
    factors.confirm(other, pyotp.TOTP(factors.begin(other).secret).at(NOW))
    with pytest.raises(Unauthorized):
        factors.check(own_id(other), codes[0])


def test_the_database_alone_makes_no_codes(hub: Hub, factors: TwoFactors, actor: Actor, authenticator: pyotp.TOTP):
    codes = factors.renew_recovery_codes(actor, authenticator.at(NOW))
    with hub.database.read() as session:
        rows = [repr(tuple(row)) for table in Table.metadata.sorted_tables for row in session.execute(select(table))]
    stored = "\n".join(rows)
    assert authenticator.secret not in stored
    assert not any(code in stored or code.replace("-", "") in stored for code in codes)
    elsewhere = TwoFactors(hub.database, b"another hub's secret", lambda: NOW + STEP)
    with pytest.raises(Unauthorized):
        elsewhere.check(own_id(actor), authenticator.at(NOW + STEP))


def test_signing_in_takes_the_password_and_then_a_code(hub: Hub, actor: Actor):
    name, made = actor.name or "", pyotp.TOTP(hub.two_factors.begin(actor).secret)
    hub.two_factors.confirm(actor, made.at(time.time() - STEP))
    with pytest.raises(Unauthorized):
        hub.sign_in.sign_in(name, "wrong password")
    step = hub.sign_in.sign_in(name, PASSWORD)
    assert isinstance(step, SecondStep)
    assert hub.browser_sessions.actor(step.ticket).is_anonymous
    assert hub.sign_in.name_of(step.ticket) == name
    with pytest.raises(Unauthorized):
        hub.sign_in.second_step(step.ticket, "000000")
    forged = step.ticket.replace(step.ticket.split(".")[1], "9999999999")
    for ticket in ("", "1.2.3", forged):
        with pytest.raises(Unauthorized, match="begin again"):
            hub.sign_in.second_step(ticket, made.now())
    cookie = hub.sign_in.second_step(step.ticket, made.now())
    assert hub.browser_sessions.actor(cookie).name == name
    with pytest.raises(Unauthorized):
        hub.sign_in.second_step(step.ticket, made.now())
    hub.sign_in.set_password(name, "another good one")
    with pytest.raises(Unauthorized, match="begin again"):
        hub.sign_in.second_step(step.ticket, made.at(time.time() + STEP))


def test_turning_it_off_takes_the_password_and_a_code(hub: Hub, actor: Actor):
    made = pyotp.TOTP(hub.two_factors.begin(actor).secret)
    hub.two_factors.confirm(actor, made.at(time.time() - STEP))
    for password, code in (("wrong password", made.now()), (PASSWORD, "000000")):
        with pytest.raises(Unauthorized):
            hub.sign_in.turn_off_two_factor(actor, password, code)
    hub.sign_in.turn_off_two_factor(actor, PASSWORD, made.now())
    assert isinstance(hub.sign_in.sign_in(actor.name or "", PASSWORD), str)
    assert hub.two_factors.recovery_codes_left(own_id(actor)) == 0


def test_the_operator_resets_it_and_every_step_is_in_the_log(hub: Hub, factors: TwoFactors, actor: Actor):
    made = pyotp.TOTP(factors.begin(actor).secret)
    codes = factors.confirm(actor, made.at(NOW))
    factors.check(own_id(actor), codes[0])
    factors.reset(actor.name or "")
    with pytest.raises(Conflict):
        factors.reset(actor.name or "")
    with pytest.raises(NotFound):
        factors.reset("nobody-at-all")
    with hub.database.read() as session:
        told = select(Event.kind, Event.data).where(Event.kind.startswith("two_factor."))
        rows = session.execute(told.order_by(Event.id.desc()).limit(3)).tuples().all()
    assert rows == [
        ("two_factor.reset", {"name": actor.name}),
        ("two_factor.recovery", {}),
        ("two_factor.on", {}),
    ]


def test_sessions_are_listed_by_browser_and_end_one_by_one_or_all_others(hub: Hub, actor: Actor):
    name = actor.name or ""
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    cookies = [str(hub.sign_in.sign_in(name, PASSWORD, agent=agent)) for agent in (firefox, "curl/8.5.0", "")]
    listed = hub.browser_sessions.of(actor)
    assert {session.agent for session in listed} == {"Firefox · Linux", "curl/8.5.0", ""}
    curl = next(session for session in listed if session.agent.startswith("curl"))
    with pytest.raises(NotFound):
        hub.browser_sessions.end(hub.tokens.actor(hub.accounts.add_user(f"{name}-2")), session_id(curl))
    hub.browser_sessions.end(actor, session_id(curl))
    assert [hub.browser_sessions.actor(cookie).name for cookie in cookies] == [name, None, name]
    hub.browser_sessions.end_others(actor, cookies[0])
    assert [hub.browser_sessions.actor(cookie).name for cookie in cookies] == [name, None, None]


@pytest.mark.parametrize(
    ("agent", "shown"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "Edge · Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.1 Safari/605.1.15", "Safari · macOS"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/131.0.0.0 Mobile Safari/537.36", "Chrome · Android"),
        ("python-httpx/0.28 and more", "python-httpx/0.28"),
        ("x" * 1000, "x" * 80),
    ],
)
def test_a_browser_is_named_in_short(agent: str, shown: str):
    assert short_agent(agent) == shown
