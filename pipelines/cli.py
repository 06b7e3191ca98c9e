# SPDX-License-Identifier: Apache-2.0
"""The command line. Heavy modules are imported by the commands, so that --help and check answer at once."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="pipelines",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Mill raw UHD video into measured clips, captions and multi-scale token shards.",
)

RecipeArg = Annotated[str, typer.Argument(help="Built-in recipe (quickstart, ultravideo) or path of a YAML file.")]
OutArg = Annotated[str, typer.Argument(help="Data set directory or s3:// URI.")]
SetOpt = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="Change a recipe value, such as rules.border.max_bad_share=0.1."),
]
AddressOpt = Annotated[
    str | None,
    typer.Option(
        help="Ray address, 'local', 'auto', or 'in-process' for no Ray. Default: this machine, or the job's cluster."
    ),
]
WorkersOpt = Annotated[
    str | None, typer.Option(metavar="cpu=N,gpu=M", help="Pool sizes; on a cluster also the nodes to wait for.")
]


@app.command()
def run(
    recipe: RecipeArg = "quickstart",
    source: Annotated[
        str | None,
        typer.Option(
            "--in",
            help="Directory, glob, CSV/JSONL/Parquet manifest, or s3:// URI. Default: what the data set already lists.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(help="Data set directory or s3:// URI.")] = "out",
    set_: SetOpt = [],  # noqa: B006 - typer copies it
    only: Annotated[
        str | None,
        typer.Option(help="Stage: probe, measure, clips, models, dedup, caption, select, tokenize, pack or report."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first N sources of the listing.")] = None,
    address: AddressOpt = None,
    workers: WorkersOpt = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Our own bugs end the run instead of becoming rows of kind 'internal'.")
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Do all failed rows again, final ones too.")
    ] = False,
    require_models: Annotated[
        bool, typer.Option("--require-models", help="Refuse to start if a model's weights are not on this machine.")
    ] = False,
    block_rows: Annotated[int | None, typer.Option(min=1, help="Rows per block instead of about 30 s of work.")] = None,
) -> None:
    """Do all that is not done yet: sources to shards and report. Run it again to go on or to add sources."""
    from pipelines import model_weights
    from pipelines.mill import STAGES, Options
    from pipelines.plan import build_plan
    from pipelines.plan import check as check_plan
    from pipelines.recipe import load_recipe
    from pipelines.rounds import Budget

    if only is not None and only not in STAGES:
        raise ValueError(f"--only {only}: no such stage; the stages are {', '.join(STAGES)}")
    plan = build_plan(load_recipe(recipe, set_))
    check_plan(plan)
    if require_models:
        model_weights.require_models(plan)
    absent = model_weights.absent_models(plan)
    for line in model_weights.absence_report(plan, absent):
        typer.echo(f"note: {line}", err=True)
    num_cpus, num_gpus = parse_workers(workers)
    options = Options(
        input=_absolute(source),
        out=_out(out),
        only=only,
        limit=limit,
        address=address,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        strict=strict,
        absent_models=frozenset(absent),
        budget=Budget(block_rows=block_rows, redo_errors=retry_errors),
    )
    raise typer.Exit(run_mill(plan, options))


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Data set directory.")] = "out/demo",
    samples: Annotated[
        str | None, typer.Option(help="Where the rendered footage is cached. Default: the user's cache directory.")
    ] = None,
    address: AddressOpt = None,
) -> None:
    """Render sample footage with known faults, mill it, and compare what was found with what was expected."""
    from pipelines.demo import run_demo

    raise typer.Exit(run_demo(_out(out), samples, address))


@app.command()
def select(
    out: OutArg,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe with the new rules. Default: the data set's own recipe.yaml.")
    ] = None,
    set_: SetOpt = [],  # noqa: B006
) -> None:
    """Decide again with other rules or thresholds. Seconds: nothing is decoded; says what a run would newly compute."""
    from pipelines.reselect import reselect

    reselect(_out(out), recipe, set_)


@app.command("fit-tokenizer")
def fit_tokenizer_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Directory of videos or images, one file, a data set whose kept clips are used, or 'synthetic'.",
        ),
    ],
    out: Annotated[str, typer.Option(help="Codebook file to write (.npz).")] = "codebook.npz",
    seed: Annotated[int, typer.Option(help="Seed of the k-means.")] = 0,
) -> None:
    """Fit the weight-free reference tokenizer's codebooks on footage. Deterministic."""
    from tokenization.fit import fit_tokenizer

    path = fit_tokenizer(source, out, seed=seed)
    typer.echo(f"wrote {path}; use it with --set tokens.0.codebook={path}")


@app.command()
def pack(out: OutArg) -> None:
    """Pack finished token parts into shards and write the view (a run does this by itself)."""
    from pipelines.mill import Options

    plan = _plan_of(out)
    raise typer.Exit(run_mill(plan, Options(input=None, out=_out(out), only="pack")))


@app.command()
def report(out: OutArg) -> None:
    """Write report.html anew from what is on disk."""
    typer.echo(write_report(_out(out)))


@app.command()
def check(
    recipe: RecipeArg = "quickstart",
    set_: SetOpt = [],  # noqa: B006
    columns: Annotated[bool, typer.Option("--columns", help="List every column of every table.")] = False,
) -> None:
    """Check a recipe before any row moves: unknown keys, wrong types, columns that nothing writes."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.plan import all_columns, build_plan
    from pipelines.plan import check as check_plan
    from pipelines.recipe import load_recipe

    plan = build_plan(load_recipe(recipe, set_))
    check_plan(plan)
    if columns:
        table = Table("table", "column", "type", "meaning", show_lines=False)
        for name, column in all_columns(plan):
            table.add_row(name, column.name, str(column.dtype), column.doc)
        Console().print(table)
    fingerprints = ", ".join(f"{stage} {fp}" for stage, fp in plan.fps.items())
    typer.echo(f"{plan.recipe.recipe}: ok; {len(plan.rules)} rules; {fingerprints}")


@app.command()
def weights(
    recipe: RecipeArg,
    set_: SetOpt = [],  # noqa: B006
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch what is missing, once, and verify it.")] = False,
) -> None:
    """List the weights that a recipe needs: licence, size, where they are. Exit code 1 if some are missing."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.model_weights import weights_table
    from pipelines.plan import build_plan
    from pipelines.recipe import load_recipe

    rows, is_whole = weights_table(build_plan(load_recipe(recipe, set_)), fetch)
    table = Table()
    for heading in ("operator", "weights", "licence", "MB", "where"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table if rows else f"{recipe} needs no weights")
    if not is_whole:
        typer.echo("missing: --fetch gets hf:// and s3:// ones; others must be put where the recipe says")
        raise typer.Exit(1)


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A media file, or a data set directory.")],
    row: Annotated[
        str | None, typer.Argument(help="In a data set: a clip id, source id, or file name (or its beginning).")
    ] = None,
) -> None:
    """Show what a media file is, or all that a data set knows of a clip or source."""
    from pipelines.inspect import inspect_path

    inspect_path(_absolute(path) or path, row)


def run_mill(plan: Any, options: Any) -> int:
    """Runs the mill with progress and summary; returns the exit code.

    0: every row is accounted for. 1: our own bugs left rows of kind `internal`. 130: stopped by Ctrl-C.
    """
    from rich.console import Console

    from pipelines.mill import Mill
    from pipelines.progress import RunProgress, outcome_table, summary_table

    progress = RunProgress()
    signal.signal(signal.SIGTERM, _interrupt)
    mill = Mill(plan, options, progress, argv=sys.argv[1:])
    try:
        mill.run()
    except KeyboardInterrupt:
        progress.stop()
        progress.say("stopped; what is committed stays. The same command goes on from there.")
        return 130
    finally:
        progress.stop()
    console = Console()
    console.print(summary_table(mill.results))
    outcome = mill.outcome()
    if outcome is not None:
        console.print(outcome_table(outcome))
    if options.only in (None, "report"):
        typer.echo(f"report: {write_report(options.out, only_if_changed=not mill.did_work)}")
    return mill.exit_code()


def write_report(out: str, only_if_changed: bool = False) -> str:
    """Writes report.html below the data set's root; returns where it is."""
    from pipelines.report import build_report
    from reelmill.storage import Store

    store = Store(out)
    if not (only_if_changed and store.exists("report.html")):
        store.write_bytes("report.html", build_report(out).encode())
    return store.uri("report.html")


def parse_workers(text: str | None) -> tuple[int | None, int]:
    """`cpu=8,gpu=2` -> (8, 2). Raises ValueError."""
    found: dict[str, int] = {}
    for item in text.split(",") if text else []:
        key, _, value = item.partition("=")
        if key not in ("cpu", "gpu") or not value.isdigit():
            raise ValueError(f"--workers {text}: expected cpu=N,gpu=M, got {item!r}")
        found[key] = int(value)
    if found.get("cpu") == 0:
        raise ValueError(f"--workers {text}: cpu must be at least 1")
    return found.get("cpu"), found.get("gpu", 0)


def _plan_of(out: str) -> Any:
    from pipelines.plan import build_plan
    from pipelines.recipe import parse_recipe
    from pipelines.recipe_text import parse_yaml
    from reelmill.storage import Store

    store = Store(out)
    if not store.exists("recipe.yaml"):
        raise ValueError(f"{store.root} is no data set: it has no recipe.yaml")
    text = store.read_bytes("recipe.yaml").decode()
    return build_plan(parse_recipe(parse_yaml(text, "recipe.yaml"), store.uri("recipe.yaml")))


def _out(path: str) -> str:
    """The data set's root. Raises ValueError for nothing: it would be the current directory."""
    if not path.strip():
        raise ValueError("--out is empty; name a directory or an s3:// URI")
    return _absolute(path) or path


def _absolute(path: str | None) -> str | None:
    """Workers may run elsewhere: local paths are made absolute."""
    if path is not None and not path.strip():
        raise ValueError("--in is empty; name a directory, a glob, a manifest or an s3:// URI")
    return path if path is None or "://" in path else os.path.abspath(Path(path).expanduser())


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: user errors are one line on stderr and exit code 2."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        app(standalone_mode=True)
    except BrokenPipeError:
        raise SystemExit(141) from None  # as a shell says of a program whose reader has gone
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
