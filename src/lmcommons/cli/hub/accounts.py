"""`lmc hub user|token|org|invite …`: who uses the hub."""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmcommons.cli.hub.opening import Data, Database, open_hub, open_present_hub
from lmcommons.errors import RequestError

if TYPE_CHECKING:
    from lmcommons.hub.accounts.permissions import Action
    from lmcommons.hub.database.tables import Account, Role
    from lmcommons.hub.rooms import Hub

user = typer.Typer(no_args_is_help=True, help="People who use the hub.")
org = typer.Typer(no_args_is_help=True, help="Organisations that own repositories together.")
member = typer.Typer(no_args_is_help=True, help="Who belongs to an organisation, and with which role.")
org.add_typer(member, name="member")
token = typer.Typer(no_args_is_help=True, help="Access tokens of users.")
invite = typer.Typer(no_args_is_help=True, help="Leave to make an account, where `serve --sign-up invite` says so.")

UserName = Annotated[str, typer.Argument(metavar="USER")]
OrganisationName = Annotated[str, typer.Argument(metavar="ORGANISATION")]
Json = Annotated[bool, typer.Option("--json", help="one JSON array")]


# ---------------------------------------------------------------- users


@user.command("add")
def add_user(
    name: str,
    data: Data,
    fullname: Annotated[str | None, typer.Option()] = None,
    email: Annotated[str | None, typer.Option()] = None,
    admin: Annotated[bool, typer.Option("--admin", help="may do everything in every namespace")] = False,
    database: Database = None,
) -> None:
    """Make a user and print a write token, alone, on standard output; it is not shown again."""
    with open_hub(data, database) as hub:
        typer.echo(hub.accounts.add_user(name, fullname=fullname, email=email, admin=admin))


@user.command("list")
def list_users(data: Data, as_json: Json = False, database: Database = None) -> None:
    """List the users."""
    from lmcommons.hub.database.tables import AccountKind

    with open_hub(data, database) as hub:
        rows = [
            {**_account(hub, found), "email": found.email, "admin": found.is_admin, "disabled": found.disabled}
            for found in hub.accounts.all(AccountKind.USER)
        ]
    _print(rows, as_json=as_json)


@user.command("password")
def set_password(name: str, data: Data, database: Database = None) -> None:
    """Give a user a password for the pages: asked for twice, or the first line of standard input."""
    if sys.stdin.isatty():
        password = typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    with open_hub(data, database) as hub:
        hub.sign_in.set_password(name, password)


@user.command("reset-two-factor")
def reset_two_factor(name: str, data: Data, database: Database = None) -> None:
    """Let a user sign in with the password alone, who lost the authenticator and the recovery codes."""
    with open_hub(data, database) as hub:
        hub.two_factors.reset(name)


@user.command("disable")
def disable_user(name: str, data: Data, database: Database = None) -> None:
    """Shut a user out: no token and no password works. What the user made stays, and `enable` undoes it."""
    with open_hub(data, database) as hub:
        hub.accounts.change_user(name, disabled=True)


@user.command("enable")
def enable_user(name: str, data: Data, database: Database = None) -> None:
    """Let a user in again who was shut out."""
    with open_hub(data, database) as hub:
        hub.accounts.change_user(name, disabled=False)


@user.command("delete")
def delete_user(
    name: str,
    data: Data,
    transfer_to: Annotated[
        str | None, typer.Option(metavar="NAME", help="the user or organisation that gets what the user owns")
    ] = None,
    database: Database = None,
) -> None:
    """Delete a user for good, and the name from the log; refused while the user owns something.

    Comments and commits stay. The name is never given to anybody else.
    """
    from lmcommons.hub.operating.departures import delete_user

    with open_present_hub(data, database) as hub:
        delete_user(hub, name, transfer_to)


@user.command("admin")
def make_admin(
    name: str,
    data: Data,
    off: Annotated[bool, typer.Option("--off", help="take the right away")] = False,
    database: Database = None,
) -> None:
    """Let a user do everything in every namespace."""
    with open_hub(data, database) as hub:
        hub.accounts.change_user(name, admin=not off)


@user.command("quota")
@org.command("quota")
def set_quota(
    name: str, limit: Annotated[str, typer.Argument(metavar="BYTES|none")], data: Data, database: Database = None
) -> None:
    """Limit the bytes that may be stored in a namespace; `none` lifts the limit."""
    if limit != "none" and not (limit.isascii() and limit.isdigit() and len(limit) < 19):
        raise RequestError(f"{limit}: write a number of bytes, or none")
    with open_hub(data, database) as hub:
        hub.accounts.set_quota(name, None if limit == "none" else int(limit))


# ---------------------------------------------------------------- tokens


@token.command("add")
def add_token(
    user_name: UserName,
    data: Data,
    name: Annotated[str, typer.Option(help="what the token is for")] = "default",
    role: Annotated[str | None, typer.Option(help="read, write or fineGrained; default: write")] = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH:RIGHT",
            help="what a fine-grained token may do: NAMESPACE, NAMESPACE/NAME or datasets/NAMESPACE/NAME, and read, "
            "discuss, write, manage or administer",
        ),
    ] = None,
    expires: Annotated[int | None, typer.Option(min=1, max=36500, metavar="DAYS", help="default: never")] = None,
    database: Database = None,
) -> None:
    """Print another token of a user, alone, on standard output; it is not shown again."""
    from lmcommons.hub.database.tables import TokenRole

    role = role or (TokenRole.FINE_GRAINED if repository else TokenRole.WRITE)
    if role not in list(TokenRole):
        raise RequestError(f"--role {role}: one of {', '.join(TokenRole)}")
    scopes = dict(map(_scope, repository or []))
    life = timedelta(days=expires) if expires else None
    with open_hub(data, database) as hub:
        typer.echo(hub.tokens.add(user_name, name, TokenRole(role), scopes=scopes, life=life))


@token.command("list")
def list_tokens(user_name: UserName, data: Data, as_json: Json = False, database: Database = None) -> None:
    """List a user's tokens; their text is kept nowhere."""
    with open_hub(data, database) as hub:
        found = hub.tokens.of(user_name)
    rows = [
        {
            "id": each.id,
            "name": each.name,
            "role": each.role,
            "created": _day(each.created_at),
            "expires": _day(each.expires_at),
            "used": _day(each.last_used_at),
        }
        for each in found
    ]
    _print(rows, as_json=as_json)


@token.command("revoke")
def revoke_token(
    user_name: UserName,
    token_id: Annotated[int, typer.Argument(metavar="ID", help="as `token list` shows it")],
    data: Data,
    database: Database = None,
) -> None:
    """End a token at once."""
    with open_hub(data, database) as hub:
        hub.tokens.revoke(user_name, token_id)


# ---------------------------------------------------------------- organisations


@org.command("add")
def add_organisation(
    name: str,
    data: Data,
    fullname: Annotated[str | None, typer.Option()] = None,
    members: Annotated[
        list[str] | None, typer.Option("--member", metavar="USER:ROLE", help="role: read, contributor, write or admin")
    ] = None,
    private_by_default: Annotated[bool, typer.Option("--private-by-default", help="of new repositories")] = False,
    database: Database = None,
) -> None:
    """Make an organisation."""
    joining = list(map(_member, members or []))
    with open_hub(data, database) as hub:
        hub.organisations.add(name, fullname=fullname, members=joining, private_by_default=private_by_default)


@org.command("list")
def list_organisations(data: Data, as_json: Json = False, database: Database = None) -> None:
    """List the organisations with their members."""
    from lmcommons.hub.database.tables import AccountKind

    with open_hub(data, database) as hub:
        rows = [
            {
                **_account(hub, found),
                "members": [f"{member.name}:{role}" for member, role in hub.organisations.members(found.id)],
            }
            for found in hub.accounts.all(AccountKind.ORGANISATION)
        ]
    _print(rows, as_json=as_json)


@member.command("add")
def add_member(
    organisation: OrganisationName,
    joining: Annotated[str, typer.Argument(metavar="USER:ROLE", help="role: read, contributor, write or admin")],
    data: Data,
    database: Database = None,
) -> None:
    """Make a user a member, or give a member another role."""
    name, role = _member(joining)
    with open_hub(data, database) as hub:
        hub.organisations.set_member(None, organisation, name, role)


@member.command("remove")
def remove_member(organisation: OrganisationName, user_name: UserName, data: Data, database: Database = None) -> None:
    """End a membership; the last admin stays."""
    with open_hub(data, database) as hub:
        hub.organisations.set_member(None, organisation, user_name, None)


@member.command("list")
def list_members(organisation: OrganisationName, data: Data, as_json: Json = False, database: Database = None) -> None:
    """List the members of an organisation."""
    with open_hub(data, database) as hub:
        found = hub.organisations.members(hub.organisations.find(organisation).id)
    _print([{"name": each.name, "role": role} for each, role in found], as_json=as_json)


# ---------------------------------------------------------------- invitations


@invite.command("add")
def add_invitation(
    data: Data,
    uses: Annotated[int, typer.Option(min=1, max=10_000, help="how many people may use it")] = 1,
    expires: Annotated[int, typer.Option(min=1, max=3650, metavar="DAYS")] = 7,
    public_url: Annotated[str, typer.Option(help="the hub's address, as users see it")] = "http://127.0.0.1:7860",
    database: Database = None,
) -> None:
    """Print the address at which people make an account, alone, on standard output; it is not shown again."""
    with open_hub(data, database) as hub:
        code = hub.joining.invite(uses=uses, life=timedelta(days=expires))
    typer.echo(f"{public_url.rstrip('/')}/join?code={code}")


def _scope(text: str) -> tuple[str, "Action"]:
    from lmcommons.hub.accounts.permissions import RIGHTS, Action

    path, _, right = text.rpartition(":")
    if right not in list(RIGHTS):
        raise RequestError(f"--repository {text}: write PATH:RIGHT, with a right of {', '.join(RIGHTS)}")
    return path, Action(right)


def _member(text: str) -> tuple[str, "Role"]:
    from lmcommons.hub.database.tables import Role

    name, _, role = text.partition(":")
    if role not in list(Role):
        raise RequestError(f"{text}: write USER:ROLE, with a role of {', '.join(Role)}")
    return name, Role(role)


def _account(hub: "Hub", found: "Account") -> dict[str, Any]:
    return {
        "name": found.name,
        "fullname": found.fullname,
        "created": _day(found.created_at),
        "used": hub.accounts.used(found.id),
        "quota": found.quota,
    }


def _day(when: datetime | None) -> str | None:
    return when.astimezone(UTC).date().isoformat() if when else None


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Rows of one kind: as JSON, or with tabs between what is in them."""
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo("\t".join(_text(name, value) for name, value in row.items()))


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else "-"
    if isinstance(value, list):
        return " ".join(value) or "-"
    return "-" if value is None else str(value)
