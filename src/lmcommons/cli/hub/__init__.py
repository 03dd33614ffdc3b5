"""`lmc hub …`: one module per group of commands."""

import typer

from lmcommons.cli.hub import accounts, operating, storage
from lmcommons.cli.hub.serve import serve

app = typer.Typer(no_args_is_help=True, help="Host a hub.")
app.command()(serve)
for command in (operating.fsck, operating.backup, operating.restore, operating.export, operating.mirror):
    app.command()(command)
app.command("import")(operating.import_)
app.command()(storage.gc)
app.add_typer(accounts.user, name="user")
app.add_typer(accounts.token, name="token")
app.add_typer(accounts.org, name="org")
app.add_typer(accounts.invite, name="invite")
