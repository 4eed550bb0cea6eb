"""Where numba comes in, if the extra `fast` is installed; nothing else imports it.

The functions of the inner loop are plain Python marked `@jitable`: interpreted on lists, or
compiled on int64 arrays with the same results.
"""

import contextlib
import importlib
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

PLAIN_VARIABLE: Final = "TOKENSTALL_PLAIN"

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
    """Return `function` compiled at its first call."""
    compiled: _Function = numba.njit(_nrt=False, error_model="numpy")(function)
    return compiled
