"""The ways a command can end badly. The edge (`cli/`) turns each into one line and an exit code."""


class CommandError(Exception):
    """The work failed: disk full, hub unreachable, diverging loss. One line for the user; exit code 1."""

    exit_code = 1


class StoppedError(CommandError):
    """Somebody stopped the work, which the same command continues. One line; exit code 1."""


class RequestError(CommandError):
    """The request was wrong: a typo in a recipe, a missing file, an unknown model. One line; exit code 2."""

    exit_code = 2
