"""The channels of a microscope scenario's contestants, and every point of their sweeps."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import gcd
from typing import Any, Final

from sim.checking import Checker
from sim.errors import InputError, nearest
from sim.hardware.dram.address import DramMap, check_order
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.devices import nearest_device
from sim.hardware.dram.timing import DramSpec, dram_files, load_dram
from sim.hardware.spec import load_chip
from sim.resources import chip_dirs, is_path, named_files
from sim.scenario.microscope_scenario import Axis, MicroPoint, PatternSpec, Value
from sim.scenario.microscope_schema import ELEMENT_BITS, MAP_CHOICES, PRESETS, ChannelTable
from sim.toml_source import KeyPath, shown

MAX_AXES: Final = 2
MIN_GRANULES: Final = 8
_TIMES: Final = {"row_timeout": "row_timeout_ps", "age_bound": "age_bound_ps"}
_NOT_CONTROLLER: Final = ("device", "map", "order", "hash", "preset", "name")
Pattern = tuple[int, str, str, dict[str, list[Value]]]
"""Place in the file, kind, name, and the values of every key."""


class Channels:
    """The channels of one contestant, along what is swept of them, and what they are asked."""

    def __init__(
        self,
        checker: Checker,
        place: KeyPath,
        name: str,
        said: dict[str, list[Any]],
        total_bytes: int,
    ) -> None:
        self._checker, self._place, self._name, self._said = checker, place, name, said
        self._bytes = total_bytes
        self._specs = [self._device(index, text) for index, text in enumerate(said["device"])]
        self._order = tuple(said.get("order", ()))
        wrong = check_order(self._order) if self._order else None
        if "map" in said and "order" in said:
            checker.wrong(self._at("order"), "stands beside map", expected="one of them")
        elif wrong:
            checker.wrong(self._at("order"), wrong)
        elif "map" in said and "hash" in said:
            checker.wrong(self._at("hash"), "stands beside map", expected="an order, or no hash")

    def points(self, patterns: Sequence[Pattern]) -> list[MicroPoint]:
        """Return the points of all patterns; nothing where something is wrong."""
        swept = {key: values for key, values in self._said.items() if key != "order"}
        found: list[MicroPoint] = []
        for index, kind, name, values in patterns:
            place: KeyPath = ("patterns", index)
            both = {**swept, **values}
            axes = [key for key, listed in both.items() if len(listed) > 1]
            if len(axes) > MAX_AXES:
                message = f"is swept along {len(axes)} axes: {', '.join(axes)}"
                self._checker.wrong(place, message, expected=f"at most {MAX_AXES} lists")
                continue
            combinations = [dict(zip(both, c, strict=True)) for c in product(*both.values())]
            for chosen in combinations:
                at = tuple(
                    Axis(key=k, value=chosen[k], label=self._label(place, k, both[k], chosen[k]))
                    for k in axes
                )
                spec = PatternSpec(kind=kind, name=name, values={k: chosen[k] for k in values})
                if point := self._point(spec, chosen, at, place):
                    found.append(point)
        return found

    def _at(self, key: str) -> KeyPath:
        own = (*self._place, key)
        return own if self._checker.source.get(own) is not None else ("channel", key)

    def _device(self, index: int, text: str) -> DramSpec | None:
        return device_at(self._checker, (*self._at("device"), index), text)

    def _label(self, place: KeyPath, key: str, listed: list[Any], value: Any) -> str:  # noqa: ANN401
        index = listed.index(value)
        for path in ((*place, key, index), (*self._at(key), index)):
            if mark := self._checker.source.values.get(path):
                return (mark.text or str(value)).strip("\"'")
        return shown(str(value))

    def _point(
        self, pattern: PatternSpec, chosen: dict[str, Any], axes: tuple[Axis, ...], place: KeyPath
    ) -> MicroPoint | None:
        spec = self._specs[self._said["device"].index(chosen["device"])]
        if spec is None:
            return None
        controller = self._controller(chosen, spec)
        if controller is None or not _fits(self._checker, pattern, spec, place, self._bytes):
            return None
        own = DramMap(order=self._order, hash=chosen["hash"]) if self._order else None
        return MicroPoint(
            contestant=self._name,
            spec=spec,
            address_map=own or MAP_CHOICES[chosen["map"]](spec.organisation),
            map_label=f"own order, hash {chosen['hash']}" if own else chosen["map"],
            controller=controller,
            pattern=pattern,
            axes=axes,
        )

    def _controller(self, chosen: dict[str, Any], spec: DramSpec) -> Controller | None:
        base = PRESETS[chosen.get("preset", "default")](spec)
        keys = [k for k in ChannelTable.model_fields if k in chosen and k not in _NOT_CONTROLLER]
        try:
            return replace(base, **{_TIMES.get(key, key): chosen[key] for key in keys})
        except ValueError as error:
            at = next((k for k in keys if k.startswith("write_")), "write_queue")
            self._checker.wrong(self._at(at), str(error).rstrip("."))
            return None


def _fits(
    checker: Checker, pattern: PatternSpec, spec: DramSpec, place: KeyPath, total_bytes: int
) -> bool:
    """Note where a granule is no whole number of accesses, or the run has too few of them."""
    access = spec.organisation.access_bytes
    sizes = {
        key: int(pattern.values[key]) for key in ("chunk", "interleave") if key in pattern.values
    }
    key = next((key for key in ("chunk", "tile_k", "head_dim") if key in pattern.values), "chunk")
    bits = ELEMENT_BITS[pattern.text("format")] if "format" in pattern.values else 8
    run_bits = pattern.integer(key) * bits
    for name, size in sizes.items():
        if size % access:
            expected = f"a multiple of {access} B, what {spec.name} moves at once"
            checker.wrong((*place, name), "is no whole number of accesses", expected=expected)
            return False
    if run_bits % (8 * access):
        expected = f"a multiple of {8 * access // bits} elements"
        message = "makes rows that are no whole number of accesses"
        checker.wrong((*place, key), message, expected=expected)
        return False
    if gcd(run_bits // 8, *sizes.values()) * MIN_GRANULES > total_bytes:
        expected = f"granules of at most a {MIN_GRANULES}th of bytes, which is {total_bytes} B"
        checker.wrong((*place, key), "is too large", expected=expected)
        return False
    return True


def device_at(checker: Checker, path: KeyPath, text: str) -> DramSpec | None:
    """Return the device of that name, or of a chip's memory; None after noting why not."""
    known, chips = dram_files(), named_files(chip_dirs())
    try:
        if text in known or is_path(text):
            return load_dram(text)
        if text in chips:
            chip = load_chip(text, chip_dirs())
            own = nearest_device(chip.hbm_type, chip.hbm_bytes_per_s // chip.pseudo_channels)
            if own is None:
                message = f"has {chip.hbm_type}, of which there is no timing table"
                checker.wrong(path, message, expected=f"one of {', '.join(known)}")
            return own
    except InputError as error:
        checker.refer(path, text, error)
        return None
    expected = f"a chip, a path or one of {', '.join(known)}"
    likely = nearest(text, (*known, *chips))
    checker.wrong(path, "unknown DRAM device", expected=expected, likely=likely)
    return None
