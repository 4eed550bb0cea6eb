"""Golden numbers of the shipped scenarios: they change only on purpose (`--force-regen`)."""

import pytest
from pytest_regressions.data_regression import DataRegressionFixture

from sim.run import execute
from sim.scenario.load import load_scenario


@pytest.mark.parametrize("name", ["architectures", "long_context", "moe_vs_dense", "quantization"])
def test_step_times_and_dominating_causes_are_as_recorded(
    name: str, data_regression: DataRegressionFixture
) -> None:
    """Picoseconds of every contestant at two batches and two contexts, to the last one."""
    grid = ["grid.batch=[1, 16]", "grid.context=[512, 4096]"]
    result = execute(load_scenario(name, grid), memo=False)
    data_regression.check(
        {
            f"{p.contestant}, batch {p.batch}, context {p.context}": (
                f"{p.step_ps} ps, {p.bound}" if p.fits else "does not fit"
            )
            for p in result.points
        }
    )
