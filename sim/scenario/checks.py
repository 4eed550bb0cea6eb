"""Checks of a scenario that need its chip, its models, or two of its keys at once."""

from collections.abc import Mapping, Sequence

from sim.checking import Checker
from sim.hardware.spec import ChipSpec
from sim.kernel.formats import KV_FORMATS, WEIGHT_FORMATS
from sim.model.architecture import Model
from sim.model.memory import kv_bytes, state_bytes, weights_bytes
from sim.model.moe import Moe
from sim.model.parallel import shard
from sim.scenario.parallel import check_parallel
from sim.scenario.scenario import RoutingKind
from sim.scenario.schema import ContestantTable, GridTable, RoutingTable
from sim.toml_source import KeyPath


def check_grid(checker: Checker) -> None:
    """Note values that stand twice in one axis."""
    for axis in ("batch", "context"):
        listed = checker.source.get(("grid", axis))
        values = listed if isinstance(listed, list) else []
        for index, value in enumerate(values):
            if value in values[:index]:
                checker.wrong(("grid", axis, index), "stands in this list already")


def check_names(checker: Checker, models: Sequence[Model | None]) -> None:
    """Note contestants that would have the same label."""
    seen: dict[str, int] = {}
    for index, model in enumerate(models):
        name = checker.source.get(("contestants", index, "name"))
        label = model.name if name is None and model else name
        if isinstance(label, str) and seen.setdefault(label, index) != index:
            checker.wrong(
                ("contestants", index, "model" if name is None else "name"),
                f"{label!r} is also the name of contestants.{seen[label]}",
                expected="a name of its own",
            )


def check_placement(checker: Checker, n_contestants: int) -> None:
    """Note pages that no address map asks for, and maps that bank-level channels do not have."""
    tables: list[KeyPath] = [("simulation",)]
    tables += [("contestants", index) for index in range(n_contestants)]
    general = checker.source.get(("simulation", "address_map")) or "even"
    maps = [checker.source.get((*path, "address_map")) or general for path in tables]
    for path, used in zip(tables, maps, strict=True):
        named = checker.source.get((*path, "address_map"))
        if named not in (None, "even") and checker.source.get(("simulation", "channel")) == "bank":
            checker.wrong(
                (*path, "address_map"),
                "is not simulated with bank-level channels, which have a map of their own",
                expected='"even", or channel = "coarse"',
            )
        even = all(one == "even" for one in (maps if path == ("simulation",) else [used]))
        if even and checker.source.get((*path, "kv_pages")):
            checker.wrong(
                (*path, "kv_pages"),
                "is of no use: an even address map spreads every page over all channels",
                expected='address_map = "interleaved" or "hashed"',
            )


def check_contestant(
    checker: Checker, index: int, model: Model, chip: ChipSpec | None, grid: GridTable | None
) -> None:
    """Note what model, chip and grid make impossible: formats, routing, size."""
    path: KeyPath = ("contestants", index)
    if chip:
        _check_compute(checker, (*path, "weights"), chip)
    if checker.source.get((*path, "routing")) is not None:
        _check_routing(checker, (*path, "routing"), model, grid)
    entry = checker.valid(ContestantTable, path)
    if chip and entry and entry.tensor_parallel > 1:
        problems = check_parallel(chip, model, tensor=entry.tensor_parallel)
        for problem in problems:
            checker.wrong((*path, "tensor_parallel"), problem)
        model = model if problems else shard(model, tensor=entry.tensor_parallel)
    if chip and grid and entry:
        needs = memory_needs(
            model, entry.weights, entry.kv, batch=min(grid.batch), context=min(grid.context)
        )
        _check_fits(checker, (*path, "model"), needs, chip)


def memory_needs(
    model: Model, weights: str, kv: str, *, batch: int, context: int
) -> dict[str, int]:
    """Return the bytes that a point needs at least, by what they are for.

    Activations are left out: their size is known once a step is built, and they never decide
    whether a model fits at all.
    """
    return {
        "weights": weights_bytes(model, WEIGHT_FORMATS[weights]),
        "KV": kv_bytes(model, KV_FORMATS[kv], batch=batch, context=context),
        "state": state_bytes(model, batch=batch),
    }


def _check_fits(checker: Checker, path: KeyPath, needs: Mapping[str, int], chip: ChipSpec) -> None:
    total = sum(needs.values())
    if total > chip.hbm_bytes:
        parts = ", ".join(f"{name} {_gb(need)}" for name, need in needs.items() if need)
        checker.wrong(
            path,
            "does not fit at any point: "
            f"needs {_gb(total)} GB of {_gb(chip.hbm_bytes)} GB: {parts}",
        )


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f}"


def _check_compute(checker: Checker, path: KeyPath, chip: ChipSpec) -> None:
    weights = WEIGHT_FORMATS.get(str(checker.source.get(path)))
    if weights and weights.compute not in chip.tensor_flop_per_s:
        able = [f.name for f in WEIGHT_FORMATS.values() if f.compute in chip.tensor_flop_per_s]
        checker.wrong(
            path,
            f"{chip.name} has no {weights.compute} tensor rate",
            expected=f"one of {', '.join(able)}",
        )


def _check_routing(checker: Checker, path: KeyPath, model: Model, grid: GridTable | None) -> None:
    if model.moe is None:
        checker.wrong(path, f"{model.name} has no experts to route to", expected="no routing")
        return
    routing = checker.valid(RoutingTable, path)
    if routing is None:
        return
    kind = RoutingKind(routing.kind)
    _check_option(checker, path, kind, "exponent", RoutingKind.ZIPF)
    _check_option(checker, path, kind, "counts", RoutingKind.COUNTS)
    if routing.counts:
        _check_counts(checker, (*path, "counts"), routing.counts, model.moe, grid)


def _check_option(
    checker: Checker, path: KeyPath, kind: RoutingKind, key: str, owner: RoutingKind
) -> None:
    """Note an option that `owner` needs and does not have, or that another kind has."""
    present = checker.source.get((*path, key)) is not None
    if kind is owner and not present:
        checker.wrong((*path, key), f"is missing: {owner} routing needs it")
    elif kind is not owner and present:
        checker.wrong((*path, key), f"is of no use to {kind} routing", expected=f"{owner} routing")


def _check_counts(
    checker: Checker, path: KeyPath, counts: list[int], moe: Moe, grid: GridTable | None
) -> None:
    if len(counts) != moe.n_experts:
        checker.wrong(
            path, f"has {len(counts)} counts", expected=f"one for each of {moe.n_experts} experts"
        )
        return
    for batch in grid.batch if grid else ():
        if sum(counts) != batch * moe.top_k or max(counts) > batch:
            checker.wrong(
                path,
                f"holds {sum(counts)} choices and up to {max(counts)} for one expert, "
                f"which is no routing of batch {batch}",
                expected=f"{batch * moe.top_k} choices, at most {batch} for one expert",
            )
            return
