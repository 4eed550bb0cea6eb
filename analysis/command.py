"""How the commands of `python -m analysis.X` end: problems of the input are told, not traced."""

import sys

import click

from sim.errors import InputError


def run(command: click.Command) -> None:
    """Run a command on the arguments of this process; exit with 2 if its input is wrong."""
    try:
        command()
    except InputError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
