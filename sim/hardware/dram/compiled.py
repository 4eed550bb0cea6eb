"""Where numba comes in, if the extra `fast` is installed; nothing else imports it.

The functions of the inner loop are plain Python marked `@jitable`: interpreted on lists, or
compiled on int64 arrays with the same results.
"""

import contextlib
import hashlib
import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sim.resources import cache_home

PLAIN_VARIABLE: Final = "TOKENSTALL_PLAIN"
_SOURCES: Final = Path(__file__).parent

_Function = TypeVar("_Function", bound=Callable[..., Any])

numba: Any = None
with contextlib.suppress(ImportError):
    numba = importlib.import_module("numba")


def available() -> bool:
    """Return whether the compiled path can be used: numba is there and not switched off."""
    return numba is not None and not os.environ.get(PLAIN_VARIABLE)


def jitable(function: _Function) -> _Function:
    """Mark a function as callable from compiled code; it stays plain Python for everyone else."""
    if numba is None:
        return function
    marked: _Function = numba.extending.register_jitable(forceinline=True, _nrt=False)(function)
    return marked


def inlined(function: _Function) -> _Function:
    """Mark a small function of the innermost loops: `jitable`, and copied into its callers.

    LLVM does not do so by itself across numba's libraries; for everything it would take minutes.
    """
    if numba is None:
        return function
    marked: _Function = numba.extending.register_jitable(inline="always")(function)
    return marked


def compile_function(function: _Function) -> _Function:
    """Return `function` compiled at its first call, or as an earlier process has compiled it."""
    njit = partial(numba.njit, _nrt=False, error_model="numpy")
    before = numba.config.CACHE_DIR
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        numba.config.CACHE_DIR = str(folder)
        compiled: _Function = njit(cache=True)(function)
    except (OSError, RuntimeError):  # nowhere to keep it: numba says so with a RuntimeError
        compiled = njit(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


def cache_folder(sources: Path = _SOURCES) -> Path:
    """Return where compiled code is kept: a folder for this source of the channel and no other.

    It lies where $NUMBA_CACHE_DIR says, else in the user's cache. numba looks for changes in the
    file of a compiled function alone, not in those of what it calls.
    """
    digest = hashlib.sha256()
    for file in sorted(sources.glob("*.py")):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    own = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(own) if own else cache_home() / "numba"
    return base / digest.hexdigest()[:16]
