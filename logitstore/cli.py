"""The command `logitstore`: inspect, check, change and convert stores. Thin over the library.

Exit codes: 0 done; 1 a check failed or the work could not be done, with one message on stderr; 2 wrong usage.
"""

from typing import Any

import click

from logitstore.commands import analyse, change, convert, inspect
from logitstore.errors import StoreError
from logitstore.untrusted import plain_output

COMMANDS: tuple[click.Command, ...] = (
    inspect.info,
    inspect.show,
    inspect.check,
    analyse.stats,
    analyse.diff,
    analyse.plan,
    change.grow,
    change.merge,
    change.copy,
    change.upgrade,
    change.recode,
    change.repair,
    change.restore,
    convert.export,
    convert.import_tinyvit,
)


class _Commands(click.Group):
    """A group whose commands may raise `StoreError`: its message is printed, and the exit code is 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreError as error:
            raise click.ClickException(str(error)) from error

    def main(self, *args: Any, **more: Any) -> Any:
        with plain_output():
            return super().main(*args, **more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Inspect, check, change and convert stores of teacher logits.

    A store is named by a path, or by a URL such as s3://bucket/teacher.zarr.

    \b
    Example:
      logitstore info teacher.zarr
    """


for _command in COMMANDS:
    main.add_command(_command)
