"""`lmc hub user|token|org …`: who uses the hub."""

from typing import Annotated

import typer

from lmcommons.cli.hub.opening import Data, Database, open_hub
from lmcommons.errors import RequestError

user = typer.Typer(no_args_is_help=True, help="People who use the hub.")
org = typer.Typer(no_args_is_help=True, help="Organisations that own repositories together.")
token = typer.Typer(no_args_is_help=True, help="Access tokens of users.")


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


@token.command("add")
def add_token(
    user_name: Annotated[str, typer.Argument(metavar="USER")],
    data: Data,
    name: Annotated[str, typer.Option(help="what the token is for")] = "default",
    role: Annotated[str, typer.Option(help="read or write")] = "write",
    database: Database = None,
) -> None:
    """Print another token of a user, alone, on standard output; it is not shown again."""
    from lmcommons.hub.database.tables import TokenRole

    if role not in list(TokenRole):
        raise RequestError(f"--role {role}: one of {', '.join(TokenRole)}")
    with open_hub(data, database) as hub:
        typer.echo(hub.accounts.add_token(user_name, name, TokenRole(role)))


@org.command("add")
def add_organisation(
    name: str,
    data: Data,
    fullname: Annotated[str | None, typer.Option()] = None,
    member: Annotated[
        list[str] | None, typer.Option(metavar="USER:ROLE", help="role: read, contributor, write or admin")
    ] = None,
    private_by_default: Annotated[bool, typer.Option("--private-by-default", help="of new repositories")] = False,
    database: Database = None,
) -> None:
    """Make an organisation."""
    from lmcommons.hub.database.tables import Role

    members = []
    for text in member or []:
        user_name, _, role = text.partition(":")
        if role not in list(Role):
            raise RequestError(f"--member {text}: write USER:ROLE, with a role of {', '.join(Role)}")
        members.append((user_name, Role(role)))
    with open_hub(data, database) as hub:
        hub.accounts.add_organisation(name, fullname=fullname, members=members, private_by_default=private_by_default)
