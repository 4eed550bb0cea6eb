"""Numbers that a spec takes from another chip: they follow when the other one's change."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SPECS = Path(__file__).parents[3] / "hardware_specs"
NAMES = {
    "A100 SXM 80 GB": "a100-sxm-80gb",
    "A40": "a40",
    "B200": "b200",
    "H100 SXM": "h100-sxm",
    "H200": "h200-sxm",
    "L40": "l40",
    "L40S": "l40s",
    "M2 Ultra": "m2-ultra",
    "MI300X": "mi300x",
}
FROM = re.compile(r"(?:Hopper: |Ada: )?(.+?)(?:, same die)?, which see")


def spec(name: str) -> dict[str, Any]:
    return tomllib.loads((SPECS / f"{name}.toml").read_text(encoding="utf-8"))


def inherited() -> Iterator[tuple[str, str, str]]:
    """Yield (chip, key, the chip that it is taken from) of all launch times that say so."""
    for path in sorted(SPECS.glob("*.toml")):
        for key, entry in spec(path.stem)["launch"].items():
            match = FROM.fullmatch(entry["source"])
            if match and match[1] in NAMES:
                yield path.stem, key, NAMES[match[1]]


@pytest.mark.parametrize(("chip", "key", "origin"), list(inherited()))
def test_a_launch_time_taken_from_another_chip_is_that_chip_s(
    chip: str, key: str, origin: str
) -> None:
    """An estimate that names its origin must not stay behind when that is measured anew."""
    assert spec(chip)["launch"][key]["value"] == spec(origin)["launch"][key]["value"]


def test_there_are_such_numbers() -> None:
    """The pattern above still finds what specs say."""
    assert len(list(inherited())) > 40
