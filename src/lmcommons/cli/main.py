"""`lmc`: finds the command group, and turns every error into one line on stderr and an exit code."""

import importlib
import os
import sys

import click
import typer
from typer.main import get_command

from lmcommons import __version__
from lmcommons.errors import CommandError

# command: (module, its typer app or function, one line of help). The order is the order of `lmc --help`.
COMMANDS = {
    "hub": ("lmcommons.cli.hub", "Host a hub: serve, user, org, fsck."),
    "recipe": ("lmcommons.cli.recipe", "Check a recipe; print the recipe's JSON Schema."),
    "run": ("lmcommons.cli.run", "Run all stages of a recipe; unchanged stages are not run again."),
    "data": ("lmcommons.cli.run", "Build the dataset of a recipe."),
    "tokenizer": ("lmcommons.cli.run", "Train the tokenizer of a recipe."),
    "pretrain": ("lmcommons.cli.run", "Pretrain the model of a recipe."),
    "evaluate": ("lmcommons.cli.run", "Evaluate the model of a recipe."),
    "publish": ("lmcommons.cli.run", "Publish dataset and model of a recipe."),
    "generate": ("lmcommons.cli.generate", "Continue a prompt."),
    "serve": ("lmcommons.cli.serve", "Serve a model with an OpenAI-compatible API."),
    "import": ("lmcommons.cli.convert", "A `transformers` directory or repository into our model."),
    "export": ("lmcommons.cli.convert", "Our model as a `transformers` directory."),
}


class LazyGroup(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = get_command(module.app)
        if isinstance(command, click.Group) and cmd_name in command.commands:
            return command.commands[cmd_name]
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, prog_name="lmc")
def command() -> None:
    """LM Commons: from text to a served model, and the hub that shares it."""


def main() -> None:
    """Run `lmc` with the process's arguments."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `lmc` with `arguments`; return the exit code. LMC_TRACEBACK=1 shows where an error came from."""
    try:
        code = command.main(args=arguments, prog_name="lmc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), 2, error)
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("lmc: stopped", file=sys.stderr)
        return 130
    except typer.Exit as error:
        return int(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CommandError as error:
        return _fail(str(error), error.exit_code, error)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; run: pip install 'lmcommons[all]'", 1, error)
    except MemoryError as error:
        return _fail("out of memory; lower pretraining.batch_size or raise pretraining.gradient_accumulation", 1, error)


def _fail(message: str, exit_code: int, error: BaseException) -> int:
    if os.environ.get("LMC_TRACEBACK"):
        raise error
    print(f"lmc: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
