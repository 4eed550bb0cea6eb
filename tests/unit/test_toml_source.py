"""`sim.toml_source`: every key and value has its place."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.toml_source import Mark, TomlSource, dotted, parse_toml, read_toml, shown

TEXT = """\
title = "x" # a comment = 1

"a b".c . 'd' = 1979-05-27 07:32:00
[[contestants]]
name = \"\"\"two
lines\"\"\"
routing = { kind = "zipf", n.m = [1, 2, # , ] }
  3] }
[contestants.sub]
k = 1.5
[[contestants]]
x = [[1, [2]], {a = '}'}, "]"]
[[contestants.deep]]
y = true
[[contestants.deep]]
y = \"\"\"a"b\"\"\"\"
"""


def source_of(text: str) -> TomlSource:
    return parse_toml(text, file="f.toml")


@pytest.mark.parametrize(
    ("path", "line", "column", "text"),
    [
        (("title",), 1, 9, '"x"'),
        (("a b",), 3, 1, None),
        (("a b", "c", "d"), 3, 17, "1979-05-27 07:32:00"),
        (("contestants",), 4, 3, None),
        (("contestants", 0), 4, 1, None),
        (("contestants", 0, "name"), 5, 8, '"""two lines"""'),
        (("contestants", 0, "routing", "kind"), 7, 20, '"zipf"'),
        (("contestants", 0, "routing", "n", "m", 2), 8, 3, "3"),
        (("contestants", 0, "sub", "k"), 10, 5, "1.5"),
        (("contestants", 1), 11, 1, None),
        (("contestants", 1, "x", 0, 1, 0), 12, 11, "2"),
        (("contestants", 1, "x", 1, "a"), 12, 21, "'}'"),
        (("contestants", 1, "deep", 1, "y"), 16, 5, '"""a"b""""'),
    ],
)
def test_a_value_is_found_where_it_stands(
    path: tuple[str | int, ...], line: int, column: int, text: str | None
) -> None:
    """Line, column and text of values in every place that TOML allows."""
    assert source_of(TEXT).values[path] == Mark(line=line, column=column, text=text)


def test_a_key_is_found_where_it_stands() -> None:
    """Keys of dotted paths, inline tables and headers have places of their own."""
    keys = source_of(TEXT).keys
    assert keys["a b", "c", "d"] == Mark(line=3, column=11)
    assert keys["contestants", 0, "routing", "kind"] == Mark(line=7, column=13)
    assert keys["contestants", 0, "sub"] == Mark(line=9, column=14)


def test_the_place_of_a_missing_key_is_the_table_that_lacks_it() -> None:
    """A missing key is shown at its table, one in no table at the start of the file."""
    source = source_of(TEXT)
    assert source.mark(("contestants", 1, "model")) == Mark(line=11, column=1)
    assert source.mark(("engine",)) == Mark(line=1, column=1)


def test_numbers_keep_every_digit() -> None:
    """A fraction is a Decimal."""
    assert source_of("x = 0.10").data["x"] == Decimal("0.10")


def test_carriage_returns_do_not_move_columns() -> None:
    """Windows line ends count as one."""
    assert source_of("a = 1\r\nb = 2\r\n").values["b",] == Mark(line=2, column=5, text="2")


def test_get_returns_none_where_there_is_nothing() -> None:
    """A path that leads through a list, past its end, or into a scalar gives None."""
    source = source_of("a = [1]")
    found = [source.get(path) for path in (("a", 0), ("a", 1), ("a", "x"), ("a", 0, "x"), ("b",))]
    assert found == [1, None, None, None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb 2", "f.toml:2:3: is not TOML: expected '=' after a key in a key/value pair"),
        ("a = [1,", "f.toml:1:8: is not TOML: invalid value"),
        ("a = 1\na = 2\n", "f.toml:2:6: is not TOML: cannot overwrite a value"),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, message: str) -> None:
    """What tomllib says becomes a Problem with a place."""
    with pytest.raises(InputError) as caught:
        source_of(text)
    assert str(caught.value) == message


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    """A missing file, a folder and a file that is not UTF-8 are told without a traceback."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    told = []
    for path in (tmp_path / "none.toml", tmp_path, binary):
        with pytest.raises(InputError) as caught:
            read_toml(path, file="f.toml")
        told.append(str(caught.value))
    assert told == [
        "f.toml: cannot be read: No such file or directory",
        "f.toml: cannot be read: Is a directory",
        "f.toml: is not UTF-8 text",
    ]


def test_long_values_are_cut() -> None:
    """A shown value stays on one line of at most 60 characters."""
    assert shown("[1,\n  2]") == "[1, 2]"
    assert shown("x" * 61) == "x" * 57 + "..."


def test_a_path_is_told_with_dots() -> None:
    """List indices stand between dots like keys."""
    assert dotted(("a", 0, "b")) == "a.0.b"


KEYS = st.text("abc-_1", min_size=1, max_size=3)
SCALARS = (
    st.integers(-9, 99).map(str)
    | st.booleans().map(lambda flag: str(flag).lower())
    | st.text("ab,[]{}#=.'", max_size=4).map(lambda text: f'"{text}"')
    | st.text('ab,[]{}#=."', max_size=4).map(lambda text: f"'{text}'")
    | st.text("ab,[]{}#=.'\n", max_size=4).map(lambda text: f'"""{text}"""')
)


def _array(values: list[str]) -> str:
    between = ", # ] comment\n "
    return f"[ {between.join(values)} ]"


def _inline(table: dict[str, str]) -> str:
    return f"{{ {', '.join(f'{key} = {value}' for key, value in table.items())} }}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(_array)
        | st.dictionaries(KEYS, inner, max_size=3).map(_inline)
    ),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=3)


def _document(root: dict[str, str], tables: list[dict[str, str]]) -> str:
    lines = [f"{key} = {value}" for key, value in root.items()]
    for table in tables:
        lines += ["[[ t . 'x y' ]] # next", *(f"  {key}={value}" for key, value in table.items())]
    return "\n".join(lines)


@given(root=TABLES, tables=st.lists(TABLES, max_size=3))
def test_the_text_at_a_place_is_the_value(
    root: dict[str, str], tables: list[dict[str, str]]
) -> None:
    """Parsing the line and column of any scalar on its own gives that scalar again."""
    text = _document(root, tables)
    source = source_of(text)
    lines = text.split("\n")
    for path, mark in source.values.items():
        value = source.get(path)
        assert path in source.keys or isinstance(path[-1], int)
        is_long = mark.text is None or mark.text.startswith('"""')
        if isinstance(value, int | str) and not is_long:
            assert mark.line is not None
            assert mark.column is not None
            assert mark.text is not None
            assert lines[mark.line - 1].startswith(mark.text, mark.column - 1)
            assert parse_toml(f"v = {mark.text}", file="").data["v"] == value
