"""Random devices, controllers and streams for the bank-level channel."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from sim.hardware.dram.address import MAPS
from sim.hardware.dram.controller import Controller
from sim.hardware.dram.patterns import Pattern, Stream, make_stream
from sim.hardware.dram.timing import load_dram

DEVICES = ("hbm2-2000", "hbm3-6400", "gddr6-14000", "lpddr5-6400", "ddr5-4800", "dramsim3-hbm2")


@st.composite
def controllers(draw: DrawFn) -> Controller:
    write_queue = draw(st.integers(2, 40))
    write_high = draw(st.integers(1, write_queue))
    bank_queue = draw(st.sampled_from([0, 0, 2, 8]))
    turns = bank_queue > 0 and draw(st.booleans())
    return Controller(
        read_queue=draw(st.integers(1, 80)),
        write_queue=write_queue,
        bank_queue=bank_queue,
        staging=draw(st.sampled_from([8, 256])),
        write_high=write_high,
        write_low=draw(st.integers(0, write_high)),
        write_when_idle=draw(st.integers(1, min(9, write_queue))),
        hold_hits=draw(st.booleans()),
        hit_limit=draw(st.sampled_from([0, 1, 4])),
        row_policy=draw(st.sampled_from(["open", "closed", "adaptive"])),
        row_timeout_ps=draw(st.sampled_from([20_000, 200_000])),
        refresh=draw(st.sampled_from(["none", "all_bank", "per_bank", "hidden"])),
        refresh_stall=draw(st.sampled_from(["channel", "pseudo_channel"])),
        age_bound_ps=0 if turns else draw(st.sampled_from([0, 100_000, 1_000_000])),
        bank_order="round_robin" if turns else "age",
    )


@st.composite
def runs(draw: DrawFn) -> dict[str, Any]:
    """Return keyword arguments of `simulate`: device, controller, map, stream."""
    spec = load_dram(draw(st.sampled_from(DEVICES)))
    name = draw(st.sampled_from(["seq", "random", "streams_rand", "streams_aligned"]))
    chunk = draw(st.sampled_from([64, 128, 512]))
    pattern = Pattern(
        name=name,
        chunk_bytes=chunk,
        total_bytes=chunk * draw(st.integers(1, 16384 // chunk)),
        n_streams=draw(st.integers(1, 20)),
        read_frac=draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])),
        offered_load=draw(st.sampled_from([0.0, 0.02, 0.5, 1.5])),
    )
    stream: Stream = make_stream(pattern, spec, np.random.default_rng(draw(st.integers(0, 999))))
    address_map = MAPS[draw(st.sampled_from(sorted(MAPS)))]
    return {
        "spec": spec,
        "controller": draw(controllers()),
        "address_map": address_map,
        "stream": stream,
    }
