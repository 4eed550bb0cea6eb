"""A memo on disk: results by content hash, so that nothing is simulated twice.

A key hashes the question (chip, kernel, L2 state, knobs) and the source of the simulator, so an
edit of either asks anew. One process writes; workers hand their answers back to it. A memo that
cannot be opened or written is left alone: results never depend on it.
"""

import hashlib
import pickle
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import cache
from itertools import chain
from pathlib import Path

from sim.resources import cache_home, chip_dirs

_TABLE = "CREATE TABLE IF NOT EXISTS memo (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
_CODE = ("units.py", "kernel", "measure", "hardware", "model", "run")
# What the hardware looks up, relative to the folders of hardware specs.
_TABLES = ("dram/*.toml", "dram/*.csv", "l2/*.csv")

# What pickle raises for bytes that are no answer of ours.
_DAMAGED = (pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, ValueError)

Entry = tuple[bytes, bytes]


def default_path() -> Path:
    """Return where the memo lives."""
    return cache_home() / "memo.sqlite"


@cache
def code_version() -> bytes:
    """Return a hash of every source file and table that a simulated number depends on."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for name in _CODE:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    tables = (sorted(folder.glob(name)) for folder in chip_dirs() for name in _TABLES)
    for table in chain.from_iterable(tables):
        digest.update(table.read_bytes())
    return digest.digest()


def key_of(*question: object) -> bytes:
    """Return the key of a question; its parts must have a repr that tells all of them."""
    digest = hashlib.sha256(code_version())
    digest.update(repr(question).encode())
    return digest.digest()


class Memo:
    """Answers by key: what the disk knew at the start, and what was added since.

    A path of None remembers within the process only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._added: dict[bytes, bytes] = {}
        self._live: dict[bytes, object] = {}
        self._connection = _open(path) if path else None

    def get(self, key: bytes) -> object | None:
        """Return the answer to a key, or None."""
        if key in self._live:
            return self._live[key]
        if self._connection is None:
            return None
        try:
            rows = self._connection.execute("SELECT value FROM memo WHERE key = ?", (key,))
            row = rows.fetchone()
            # Written by us, in the user's own folder.
            answer: object = pickle.loads(row[0]) if row else None
        except (sqlite3.Error, *_DAMAGED):
            return None
        if answer is None:
            return None
        self._live[key] = answer
        return answer

    def put(self, key: bytes, answer: object) -> None:
        """Remember an answer, on disk once `write` is called."""
        self._live[key] = answer
        self._added[key] = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)

    def take_added(self) -> list[Entry]:
        """Return what was added since the last call, for the process that writes."""
        added, self._added = self._added, {}
        return list(added.items())

    def close(self) -> None:
        """Let go of the disk."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Scratch(Memo):
    """Answers that this process asks for again and nobody else: nothing is handed on."""

    def __init__(self) -> None:
        super().__init__(None)

    def put(self, key: bytes, answer: object) -> None:
        """Remember an answer while the process lasts."""
        self._live[key] = answer


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Add entries to the memo on disk; a memo that cannot be written is left as it is."""
    rows = list(entries)
    if not rows:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_TABLE)
            connection.executemany("INSERT OR REPLACE INTO memo VALUES (?, ?)", rows)
    except (sqlite3.Error, OSError):
        return


def _open(path: Path) -> sqlite3.Connection | None:
    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    except sqlite3.Error:
        return None
    try:
        connection.execute("SELECT 1 FROM memo LIMIT 1")
    except sqlite3.Error:
        connection.close()
        return None
    return connection
