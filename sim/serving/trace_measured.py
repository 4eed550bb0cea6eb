"""Measured vLLM runs: `requests.jsonl` with the times of each request, `meta.json` with settings.

Format: github.com/casys-kaist/LLMServingSim, `bench/`. `arrival_time` is of the wall clock, the
other times are of the monotonic clock of the same machine. The two differ by a constant; the best
that a file tells about it is the least `queued_ts - arrival_time`, as if the request that was
queued fastest had been queued at once. (The publisher counts latencies from `queued_ts`.)
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError, Problem
from sim.resources import display
from sim.serving.request import MeasuredSettings
from sim.serving.trace_rows import Reading, Row, decimal, json_object, objects, shown
from sim.units import PS_PER_S

FIELDS: Final = (
    "input_toks", "output_toks", "arrival_time", "queued_ts", "scheduled_ts", "first_token_ts",
    "last_token_ts",
)  # fmt: skip

_TIMES: Final = FIELDS[2:]
_SCHEDULER: Final = "resolved_config.scheduler_config"
_CACHE: Final = "resolved_config.cache_config"
_PARALLEL: Final = "resolved_config.parallel_config"

_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "model": ("model", "engine_kwargs.model"),
    "engine_version": ("vllm_version",),
    "device": ("hardware.device_name",),
    "dtype": ("engine_kwargs.dtype",),
    "kv_cache_dtype": ("engine_kwargs.kv_cache_dtype",),
    "max_num_seqs": (f"{_SCHEDULER}.max_num_seqs", "engine_kwargs.max_num_seqs"),
    "max_num_batched_tokens": (
        f"{_SCHEDULER}.max_num_batched_tokens",
        "engine_kwargs.max_num_batched_tokens",
    ),
    "max_model_len": ("resolved_config.model_config.max_model_len", "engine_kwargs.max_model_len"),
    "block_tokens": ("kv_cache.block_size", f"{_CACHE}.block_size"),
    "kv_blocks": ("kv_cache.num_gpu_blocks", f"{_CACHE}.num_gpu_blocks"),
    "gpu_memory_utilization": (
        "kv_cache.gpu_memory_utilization",
        f"{_CACHE}.gpu_memory_utilization",
    ),
    "enable_prefix_caching": ("kv_cache.enable_prefix_caching", f"{_CACHE}.enable_prefix_caching"),
    "enable_chunked_prefill": (f"{_SCHEDULER}.enable_chunked_prefill",),
    "async_scheduling": (f"{_SCHEDULER}.async_scheduling",),
    "tensor_parallel": (f"{_PARALLEL}.tensor_parallel_size", "engine_kwargs.tensor_parallel_size"),
    "data_parallel": (f"{_PARALLEL}.data_parallel_size", "engine_kwargs.data_parallel_size"),
    "expert_parallel": (
        f"{_PARALLEL}.enable_expert_parallel",
        "engine_kwargs.enable_expert_parallel",
    ),
}
"""Where meta.json states each setting: what vLLM settled on before what it was asked for."""

_EXPECTED: Final = {
    str(str | None): "text",
    str(int | None): "an integer, 1 or more",
    str(float | None): "a number above 0",
    str(bool | None): "true or false",
}


def read_measured(lines: Iterable[str], reading: Reading) -> list[Row]:
    """Return the rows of a measured run, on a clock that starts with the first request."""
    found: list[tuple[list[int], int, int]] = []
    for row in objects(lines, reading):
        inputs = reading.tokens("input_toks", row.get("input_toks"), 1)
        outputs = reading.tokens("output_toks", row.get("output_toks"), 0)
        times = [reading.time_ps(name, row.get(name), PS_PER_S) for name in _TIMES]
        known = [time for time in times if time is not None]
        if inputs is None or outputs is None or len(known) < len(times):
            continue
        if known[1:] == sorted(known[1:]):
            found.append((known, inputs, outputs))
        else:
            reading.wrong("its times are out of order", expected=" <= ".join(_TIMES[1:]))
    start = min((arrival for (arrival, *_), _, _ in found), default=0)
    clocks = min((queued - arrival for (arrival, queued, *_), _, _ in found), default=0)
    return [_row(*each, start=start, clocks=clocks) for each in found]


def _row(times: list[int], inputs: int, outputs: int, *, start: int, clocks: int) -> Row:
    arrival, queued, scheduled, first, last = times
    zero = start + clocks
    served = (queued - zero, scheduled - zero, first - zero, last - zero)
    return Row(arrival - start, inputs, outputs, served_ps=served)


def read_settings(requests: Path) -> MeasuredSettings | None:
    """Return what the `meta.json` beside a `requests.jsonl` states; None if there is none.

    Raises InputError with every setting that is of a wrong type.
    """
    path = requests.parent / "meta.json"
    if not path.is_file():
        return None
    try:
        meta = json_object(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise InputError([Problem(file=display(path), message=message)]) from None
    if meta is None:
        raise InputError([Problem(file=display(path), message="is not a JSON object")])
    stated: dict[str, Any] = {}
    problems = []
    for field in fields(MeasuredSettings):
        key, value = _stated(meta, _SETTINGS[field.name])
        stated[field.name] = _typed(value, field.type)
        if value is not None and stated[field.name] is None:
            problems.append(
                Problem(
                    file=display(path),
                    key=key,
                    value=shown(value),
                    message="is no such setting",
                    expected=_EXPECTED[str(field.type)],
                )
            )
    if problems:
        raise InputError(problems)
    return MeasuredSettings(**stated)


def _stated(meta: Mapping[str, object], keys: Iterable[str]) -> tuple[str, object]:
    """Return the first of the dotted `keys` that has a value, and the value."""
    for key in keys:
        value: object = meta
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return key, value
    return "", None


def _typed(value: object, kind: object) -> str | int | float | None:
    """Return `value` as a setting of the type `kind`, None if it is of another."""
    if isinstance(value, bool):
        return value if kind == bool | None else None
    if isinstance(value, str):
        return value if kind == str | None else None
    number = decimal(value)
    if number is None or not number.is_finite() or number <= 0:
        return None
    if kind == float | None:
        return float(number)
    return value if isinstance(value, int) and kind == int | None else None
