"""Rewrites `bounds.toml` from the present errors: `pin_bounds.py`; look at the difference before.

A bound is the error of the sampled rows plus a twentieth, so that noise of refactoring passes and a
worse model does not.
"""

import math
import os
import sys
from pathlib import Path

from analysis.validate.run import Options, validated
from analysis.validate.score import scores

HERE = Path(__file__).parent
# Every n-th shape of a table is judged in CI, which keeps the whole under two minutes.
STEPS = {
    "gemm": 10, "attention_decode": 5, "attention_prefill": 8, "attention_mixed": 10,
    "mla_decode": 5, "moe": 15, "ssm": 3, "norm_activation": 3, "decode_e2e": 4,
}  # fmt: skip
SLACK = 1.05
FEWEST_ROWS = 5


def main() -> None:
    """Write the file."""
    lines = ["# Written by pin_bounds.py: errors of every n-th shape, plus a twentieth.", "[step]"]
    lines += [f"{table} = {step}" for table, step in STEPS.items()]
    for table, step in STEPS.items():
        options = Options(
            folder=HERE / "data", ops=(table,), sample=step, jobs=os.cpu_count(), memo=False
        )
        judged = validated(options, lambda _done, _total: None)[0].judged()
        for (selection, gpu), score in scores(judged).items():
            if not gpu or score.covered < FEWEST_ROWS or score.median is None or score.p90 is None:
                continue
            lines.append(f'\n[bounds.{table}."{selection}"."{gpu}"]')
            lines.append(f"n = {score.n}")
            if score.coverage < 1:
                lines.append(f"coverage = {math.floor(100 * score.coverage) / 100}")
            lines.append(f"median = {_up(score.median)}\np90 = {_up(score.p90)}")
        sys.stdout.write(f"{table} done\n")
    (HERE / "bounds.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _up(error: float) -> float:
    return math.ceil(1000 * SLACK * error + 1) / 1000


if __name__ == "__main__":
    main()
