"""The version of this program: of the installed package, or of the checkout it runs from."""

import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

DISTRIBUTION = "tokenstall"


def version() -> str:
    """Return the version; a checkout's `pyproject.toml` beats an installed copy."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    try:
        return installed_version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
