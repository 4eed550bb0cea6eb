"""`analysis.calibrate`: finds what was hidden, keeps shapes apart, writes where it came from."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.calibrate import (
    PARAMETERS,
    Sample,
    fit,
    folds,
    main,
    median_error,
    read_samples,
    rewritten,
    with_values,
)
from analysis.validate.predict import Plan, simulate
from analysis.validate.tables import TABLES
from sim.errors import InputError
from sim.hardware.channel_check import efficiencies
from sim.hardware.spec import ChipSpec, find_chip, load_chip, parse_chip
from sim.resources import chip_dirs

DATA = Path(__file__).parents[2] / "validation" / "data"


@pytest.fixture(scope="module")
def chip() -> ChipSpec:
    return load_chip("h100-sxm", chip_dirs())


def samples_of(hidden: ChipSpec) -> list[Sample]:
    """Return GEMMs as a chip with other parameters would have timed them."""
    table = TABLES["gemm"]
    found = []
    for n in (1024, 4096, 8192):
        row = {"source": "made", "gpu": "H100-SXM", "framework": "vllm", "dtype_a": "bf16",
               "dtype_w": "bf16", "m": "16", "n": str(n), "k": "4096", "l2": "cold"}  # fmt: skip
        case = table.case(row)
        plan = Plan(hidden, case)
        found.append(
            Sample(
                table=table, row=row, case=case, measured=simulate({plan})[plan], group=(str(n),)
            )
        )
    return found


def test_a_fitted_efficiency_is_the_one_that_is_used() -> None:
    """The table explains the H100's .89 by .879; a fit must see what it tries, also within 4 %."""
    chip = load_chip("h100-sxm", chip_dirs())
    for tile in (0.85, 0.88, 0.91):
        tried = with_values(chip, {"hbm.tile_efficiency": tile})
        assert float(efficiencies(tried).tile) == tile
        assert with_values(tried, {"hbm.tile_efficiency": tile}) == tried
    assert efficiencies(with_values(chip, {"l2.bandwidth": 9e12})) == efficiencies(chip)


def test_a_hidden_parameter_is_recovered(chip: ChipSpec) -> None:
    hidden = with_values(chip, {"hbm.tile_efficiency": 0.7})
    samples = samples_of(hidden)
    fitted = fit(chip, samples, ["hbm.tile_efficiency"])
    assert float(fitted.tile_efficiency) == pytest.approx(0.7, abs=0.02)
    assert median_error(fitted, samples) < 0.01 < median_error(chip, samples)


def test_no_group_is_in_both_halves_of_a_fold(chip: ChipSpec) -> None:
    samples = samples_of(chip)
    pairs = folds(samples, 5)
    assert len(pairs) == 3
    for train, out in pairs:
        assert not {s.group for s in train} & {s.group for s in out}
    assert sum(len(out) for _, out in pairs) == len(samples)


def test_only_rows_of_the_chip_that_pass_every_test_are_read(chip: ChipSpec) -> None:
    samples = read_samples(chip, DATA, ("gemm",), ("m<=64", "dtype_w=bf16", "l2=cold"), 50)
    assert samples
    assert all(float(s.row["m"]) <= 64 for s in samples)
    assert {s.row["dtype_w"] for s in samples} == {"bf16"}
    with pytest.raises(InputError, match="is no test"):
        read_samples(chip, DATA, ("gemm",), ("m",), 50)


def test_a_written_spec_says_where_its_number_comes_from(chip: ChipSpec) -> None:
    path = find_chip(chip.name, chip_dirs())
    text = rewritten(
        path.read_text(encoding="utf-8"),
        {"hbm.tile_efficiency": 0.75, "launch.kernel_start": 500_000.0, "l2.bandwidth": 8e12},
        "a test",
    )
    changed = parse_chip(text, file="x.toml", stem=chip.name)
    assert float(changed.tile_efficiency) == 0.75
    assert changed.kernel_start_ps == 500_000
    assert changed.l2_bytes_per_s == 8 * 10**12
    assert changed.provenance["hbm.tile_efficiency"] == ("calibrated", "a test")
    assert changed.provenance["hbm.latency"] == chip.provenance["hbm.latency"]


@pytest.mark.parametrize("key", sorted(PARAMETERS))
def test_every_parameter_can_be_written_and_read_back(chip: ChipSpec, key: str) -> None:
    value = float(getattr(chip, PARAMETERS[key].field))
    path = find_chip(chip.name, chip_dirs())
    text = rewritten(path.read_text(encoding="utf-8"), {key: value}, "a test")
    again = parse_chip(text, file="x.toml", stem=chip.name)
    assert float(getattr(again, PARAMETERS[key].field)) == pytest.approx(value, rel=1e-3)


def test_unknown_names_are_refused_before_anything_runs() -> None:
    done = CliRunner().invoke(
        main, ["h100-sxm", str(DATA), "--op", "gem", "--parameter", "hbm.latency"]
    )
    assert isinstance(done.exception, InputError)
    assert "did you mean 'gemm'" in str(done.exception)
