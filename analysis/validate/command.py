"""`python -m sim validate`: predicts measured tables and prints the errors."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--gpu", "gpus", multiple=True, help="Only these GPUs of the tables; repeatable.")
@click.option("--op", "ops", multiple=True, help="Only these tables, such as gemm; repeatable.")
@click.option(
    "--model", "predictor", type=click.Choice(("des", "roofline")), default="des",
    show_default=True, help="Predict by device simulation, or by a roofline for contrast.",
)  # fmt: skip
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write scores to a file."
)
@click.option(
    "--predictions", "out_dir", type=click.Path(path_type=Path, file_okay=False),
    help="Write every table with a column of predictions into this folder.",
)  # fmt: skip
@click.option("--worst", type=click.IntRange(min=0), default=0, help="Print so many worst rows.")
@click.option("--sample", type=click.IntRange(min=1), default=1, help="Only every n-th key.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes [default: one per core].")
@click.option("--no-memo", is_flag=True, help="Simulate every kernel anew.")
def validate(  # noqa: PLR0913, PLR0917 - one argument per option
    folder: Path,
    gpus: tuple[str, ...],
    ops: tuple[str, ...],
    predictor: str,
    json_file: Path | None,
    out_dir: Path | None,
    worst: int,
    sample: int,
    jobs: int | None,
    no_memo: bool,
) -> None:
    """Predict every row of the measured tables in FOLDER; print errors per operation and chip."""
    from analysis.validate.run import Options, run_validation  # noqa: PLC0415 - slow

    run_validation(
        Options(
            folder=folder,
            gpus=gpus,
            ops=ops,
            predictor=predictor,
            json_file=json_file,
            out_dir=out_dir,
            worst=worst,
            sample=sample,
            jobs=jobs,
            memo=not no_memo,
        )
    )
