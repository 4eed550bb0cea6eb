"""The command line. Everything slow is imported inside the command that needs it."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sim.errors import InputError, InvariantError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_Command = TypeVar("_Command", bound=Callable[..., Any])

EXIT_INPUT: Final = 2
EXIT_BUG: Final = 3
EXIT_INTERRUPTED: Final = 130
COMMAND_GROUP: Final = "tokenstall.commands"
LISTABLE: Final = ("chips", "models", "engines", "scenarios")


def _added() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # noqa: PLC0415  (slow, see the module docstring)

    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


class _Commands(click.Group):
    """Built-in commands, and those that other packages add to `tokenstall.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, added ones included."""
        return sorted({*super().list_commands(ctx), *_added()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name; an added one is imported now."""
        if command := super().get_command(ctx, cmd_name):
            return command
        entry = _added().get(cmd_name)
        loaded = entry.load() if entry else None
        return loaded if isinstance(loaded, click.Command) else None


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from sim.version import version  # noqa: PLC0415

        click.echo(f"tokenstall {version()}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version)
def cli() -> None:
    """Where every picosecond and byte goes when an LLM is served on a GPU."""


def _takes_scenario(such_as: str) -> Callable[[_Command], _Command]:
    """Give a command the argument SCENARIO and the options of all that run one."""
    decorators = (
        click.argument("scenario"),
        click.option(
            "--out", type=click.Path(path_type=Path), help="Folder [default: results/NAME]."
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help=f"Change a key of the scenario, such as {such_as}; repeatable.",
        ),
        click.option(
            "--jobs", type=click.IntRange(min=1), help="Processes [default: one per core]."
        ),
        click.option("--force", is_flag=True, help="Write into a folder that holds other files."),
    )

    def decorated(command: _Command) -> _Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorated


@cli.command()
@_takes_scenario("contestants.0.weights=fp8")
@click.option("--no-memo", is_flag=True, help="Simulate every kernel anew.")
def run(
    scenario: str,
    out: Path | None,
    overrides: tuple[str, ...],
    jobs: int | None,
    no_memo: bool,
    force: bool,
) -> None:
    """Run SCENARIO (a name or a TOML file), write its results, print them."""
    from sim.cli_options import RunOptions  # noqa: PLC0415
    from sim.cli_run import run_scenario  # noqa: PLC0415

    run_scenario(
        RunOptions(
            scenario=scenario,
            out=out,
            overrides=overrides,
            jobs=jobs,
            memo=not no_memo,
            force=force,
        )
    )


@cli.command()
@_takes_scenario("channel.refresh=hidden")
def microscope(
    scenario: str, out: Path | None, overrides: tuple[str, ...], jobs: int | None, force: bool
) -> None:
    """Look at one DRAM channel, command by command, as SCENARIO says (a name or a TOML file)."""
    from sim.cli_options import RunOptions  # noqa: PLC0415
    from sim.cli_run import run_scenario  # noqa: PLC0415

    options = RunOptions(
        scenario=scenario, out=out, overrides=overrides, jobs=jobs, memo=True, force=force
    )
    run_scenario(options, only="patterns")


@cli.command(name="list")
@click.argument("what", type=click.Choice(LISTABLE), required=False)
def list_(what: str | None) -> None:
    """List the chips, models, engines or scenarios that can be named."""
    from sim.cli_show import listing  # noqa: PLC0415

    click.echo(listing((what,) if what else LISTABLE))


@cli.command()
@click.argument("what", type=click.Choice(("chip", "model")))
@click.argument("name")
def show(what: str, name: str) -> None:
    """Show a chip with the source of every number, or a model with its layers."""
    from sim.cli_show import chip_text, model_text  # noqa: PLC0415

    click.echo(chip_text(name) if what == "chip" else model_text(name))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--request", required=True, help="Its number in requests.csv, or slowest.")
@click.option("--contestant", help="Whose run, if the folder holds several.")
def explain(folder: Path, request: str, contestant: str | None) -> None:
    """Explain why a request of the serving run in FOLDER took as long as it did."""
    from sim.cli_table import wrapped  # noqa: PLC0415
    from sim.run.explain import explain as sentences  # noqa: PLC0415

    for sentence in sentences(folder, request, contestant):
        listed = sentence.startswith("- ")
        click.echo("\n".join(wrapped(sentence, rest="  " if listed else "")))


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 wrong input, 3 a bug, 130 interrupted."""
    sys.exit(_exit_code(args))


def _exit_code(args: Sequence[str] | None) -> int:
    try:
        done = cli.main(args=args, prog_name="python -m sim", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _told("interrupted; nothing was written", EXIT_INTERRUPTED)
    except InputError as error:
        return _told(_problems(error), EXIT_INPUT)
    except InvariantError as error:
        return _told(f"This is a bug in tokenstall, please report it: {error}", EXIT_BUG)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return done if isinstance(done, int) else 0


def _problems(error: InputError) -> str:
    n = len(error.problems)
    return f"{error}\n{n} problem{'s' if n != 1 else ''}, nothing was run"


def _told(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code
