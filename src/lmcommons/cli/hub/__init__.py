"""`lmc hub …`: one module per group of commands."""

import typer

from lmcommons.cli.hub import accounts, operating
from lmcommons.cli.hub.serve import serve

app = typer.Typer(no_args_is_help=True, help="Host a hub.")
app.command()(serve)
app.command()(operating.fsck)
app.add_typer(accounts.user, name="user")
app.add_typer(accounts.token, name="token")
app.add_typer(accounts.org, name="org")
