"""What a row of the curves is run with, and the draws of the reference runs."""

from analysis.dram_reference import predict, run_of, simulate_run
from analysis.reference_draws import Mersenne64, reference_stream

ROW = {
    "experiment": "d_mix",
    "config": "ds3_hbm2_bglow",
    "mapping": "bglow",
    "pattern": "streams_rand",
    "n_streams": "4",
    "chunk_bytes": "128",
    "read_frac": "1.0",
    "offered_load": "0",
    "bandwidth_fraction": "0.5",
    "mean_latency_ns": "100",
    "command": "mb=0.03125",
}


def test_the_generator_is_that_of_the_c_standard_library() -> None:
    """ISO C++ asks for 9981545732273789042 as the 10000th word of a default-seeded mt19937_64."""
    assert Mersenne64(5489).words(10_000)[-1] == 9981545732273789042


def test_bases_are_drawn_one_after_another() -> None:
    """Four words, a modulo, and then the streams take turns."""
    run = run_of(ROW)
    places = run.spec.organisation.capacity_bytes // 128
    bases = [int(word) % places * 128 for word in Mersenne64(3).words(4)]
    address = reference_stream(run.pattern, run.spec, seed=3).address
    assert address[:8].tolist() == [*bases, *(base + 128 for base in bases)]


def test_a_random_granule_draws_its_direction_first() -> None:
    """Of two words a granule the first says whether it writes, the second where."""
    run = run_of({**ROW, "pattern": "random", "read_frac": "0.5"})
    granules = run.spec.organisation.capacity_bytes // 128
    words = [int(word) for word in Mersenne64(3).words(20)]
    stream = reference_stream(run.pattern, run.spec, seed=3)
    assert stream.write[:10].tolist() == [word >= 1 << 63 for word in words[::2]]
    assert stream.address[:10].tolist() == [word % granules * 128 for word in words[1::2]]


def test_a_longer_queue_has_longer_queues_of_banks_behind_it() -> None:
    """Only DRAMsim3's rows with 128 entries."""
    longer = run_of({**ROW, "config": "ds3_hbm2_bglow_q128"}).controller
    assert (longer.read_queue, longer.bank_queue) == (128, 16)
    assert run_of(ROW).controller.bank_queue == 8


def test_what_a_row_says_is_simulated() -> None:
    """The fraction of one run with the seed, and time that was spent."""
    predicted = predict(ROW, seed=3, compiled=False)
    once = simulate_run(run_of(ROW), seed=3, compiled=False)
    assert predicted.fraction == once.bandwidth_fraction
    assert predicted.cpu_s_per_gb > 0


def test_rows_of_dramsim3_let_the_banks_take_turns() -> None:
    assert run_of(ROW).controller.bank_order == "round_robin"
    assert run_of({**ROW, "config": "hbm2_2000_refab"}).controller.bank_order == "age"
