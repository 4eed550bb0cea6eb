"""A folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.errors import InputError, Problem


@contextmanager
def staged(out_dir: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out_dir`; what is in it at the end moves into `out_dir`.

    If the body raises, nothing of `out_dir` has changed. Other files in it stay. Raises
    InputError if the place cannot be written.
    """
    staging = out_dir.parent / f".{out_dir.name}.{os.getpid()}.tmp"
    try:
        staging.mkdir(parents=True)
        yield staging
        _publish(staging, out_dir)
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise InputError([Problem(file=str(out_dir), message=message)]) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, out_dir: Path) -> None:
    for path in sorted(path for path in staging.rglob("*") if path.is_file()):
        target = out_dir / path.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
