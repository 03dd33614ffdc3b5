"""`lmc`: finds the command group, and turns every error into one line on stderr and an exit code."""

import importlib
import os
import sys
from typing import Annotated

import typer

from lmcommons import __version__
from lmcommons.errors import CommandError

# command: (module, its typer app or function, one line of help). The order is the order of `lmc --help`.
COMMANDS = {
    "hub": ("lmcommons.cli.hub", "Host a hub: serve it, its members, backups, checks."),
    "recipe": ("lmcommons.cli.recipe", "Check a recipe; print the recipe's JSON Schema."),
    "run": ("lmcommons.cli.run", "Run all stages of a recipe; unchanged stages are not run again."),
    "data": ("lmcommons.cli.run", "Build the dataset of a recipe."),
    "task-data": ("lmcommons.cli.task_data", "Make rows to fine-tune on from packages of data."),
    "tokenizer": ("lmcommons.cli.run", "Train the tokenizer of a recipe."),
    "pretrain": ("lmcommons.cli.run", "Pretrain the model of a recipe."),
    "finetune": ("lmcommons.cli.finetune", "Fine-tune a model to a task."),
    "evaluate": ("lmcommons.cli.run", "Evaluate the model of a recipe."),
    "publish": ("lmcommons.cli.run", "Publish dataset and model of a recipe."),
    "generate": ("lmcommons.cli.generate", "Continue a prompt."),
    "score": ("lmcommons.cli.score", "The log-probability of each token of a text."),
    "fill": ("lmcommons.cli.tasks", "Find tokens for the masks of a text."),
    "classify": ("lmcommons.cli.tasks", "Find the class of a text, or of each of its words."),
    "translate": ("lmcommons.cli.tasks", "Translate a text."),
    "answer": ("lmcommons.cli.tasks", "Answer a question about a text."),
    "explain": ("lmcommons.cli.explain", "Show what a model reads and what its output rests on, as a page."),
    "serve": ("lmcommons.cli.serve", "Serve a model with an OpenAI-compatible API."),
    "import": ("lmcommons.cli.convert", "A `transformers` directory, repository or GGUF file into our model."),
    "export": ("lmcommons.cli.convert", "Our model for `transformers`, llama.cpp (GGUF) or CTranslate2."),
}


def build(command: str | None) -> typer.Typer:
    """The application with every command named and only `command` imported."""
    app = typer.Typer(
        help="LM Commons: from text to a served model, and the hub that shares it.",
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def options(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
        if version:
            typer.echo(f"lmc {__version__}")
            raise typer.Exit

    for name, (module, line) in COMMANDS.items():
        if name != command:
            app.command(name, help=line)(_not_called)
            continue
        group: typer.Typer = importlib.import_module(module).app
        single = [entry for entry in group.registered_commands if entry.name == name]
        if single:
            app.registered_commands += single
        else:
            app.add_typer(group, name=name, help=line)
    return app


def _not_called() -> None:
    raise AssertionError("only the command that was asked for is imported")


def main() -> None:
    """Run `lmc` with the process's arguments."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `lmc` with `arguments`; return the exit code. LMC_TRACEBACK=1 shows where an error came from."""
    try:
        command = arguments[0] if arguments else None
        code = typer.main.get_command(build(command)).main(args=arguments, prog_name="lmc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        print("lmc: stopped", file=sys.stderr)
        return 130
    except typer.TyperException as error:
        return 2 if not str(error) else _fail(error.format_message(), 2, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CommandError as error:
        return _fail(str(error), error.exit_code, error)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; run: pip install 'lmcommons[all]'", 1, error)
    except MemoryError as error:
        return _fail(
            "out of memory; close other programs, or ask for less at once (smaller batches, shorter texts)", 1, error
        )


def _fail(message: str, exit_code: int, error: BaseException) -> int:
    if os.environ.get("LMC_TRACEBACK"):
        raise error
    print(f"lmc: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
