# SPDX-License-Identifier: Apache-2.0
"""`select`: decide again over the scores that exist, and say what changed."""

from collections.abc import Sequence

from rich.console import Console

from pipelines.manifest import load_manifest
from pipelines.mill import Mill, Options
from pipelines.plan import build_plan, check
from pipelines.progress import RunProgress, outcome_table
from pipelines.recipe import load_recipe, parse_recipe
from pipelines.recipe_text import apply_override, parse_yaml
from pipelines.unit_tasks import rows_to_measure
from reelmill.storage import Store


def kept_clips(store: Store, selection_rel: str | None) -> set[str]:
    """Ids of the clips that a selection keeps; empty if there is none."""
    if not selection_rel:
        return set()
    kept: set[str] = set()
    for name in store.list(selection_rel):
        rows = store.read_table(f"{selection_rel}/{name}", ["clip_id", "tier"]).to_pylist()
        kept.update(row["clip_id"] for row in rows if row["clip_id"] and row["tier"] != "reject")
    return kept


def reselect(out: str, recipe_name: str | None, overrides: Sequence[str]) -> None:
    """Writes the selection of a changed recipe and makes that recipe the data set's own.

    Raises:
        ValueError: no data set there, or the recipe measures something else than what was measured.
    """
    store = Store(out)
    manifest = load_manifest(store)
    if manifest is None:
        raise ValueError(f"{store.root} is no data set: it has no manifest.json")
    if recipe_name is not None:
        recipe = load_recipe(recipe_name, overrides)
    else:
        data = parse_yaml(store.read_bytes("recipe.yaml").decode(), "recipe.yaml")
        for override in overrides:
            apply_override(data, override)
        recipe = parse_recipe(data, store.uri("recipe.yaml"))
    plan = build_plan(recipe)
    check(plan)
    measured = manifest["fingerprints"]
    changed = [stage for stage in ("series", "clips", "scores") if measured.get(stage) != plan.fps[stage]]
    if changed:
        raise ValueError(
            f"the recipe changes {', '.join(changed)}, which this data set has not measured: "
            f"run `python -m pipelines run RECIPE --out {out}` instead"
        )
    before = kept_clips(store, manifest["tables"].get("selection"))
    mill = Mill(plan, Options(input=None, out=out, only="select"), RunProgress(), argv=["select", out, *overrides])
    mill.run()
    outcome = mill.outcome()
    if outcome is None:
        raise ValueError(f"{store.root} has no clips yet: run `python -m pipelines run RECIPE --out {out}` first")
    mill.publish()  # the new decisions over the shards there are: readers see them at once
    after = kept_clips(store, mill.selection.rel)
    console = Console()
    console.print(outcome_table(outcome))
    console.print(
        f"{len(after - before)} newly kept, {len(before - after)} no longer kept, {len(after & before)} as before"
    )
    waiting = unmeasured_sources(mill)
    if waiting:
        console.print(f"{waiting} sources pass the header rules now and are not measured yet")
    if after - before or waiting:
        console.print(
            f"`python -m pipelines run {store.uri('recipe.yaml')} --out {out}` does what is new, and only that"
        )


def unmeasured_sources(mill: Mill) -> int:
    """Readable sources that the header rules let through and that have no series yet."""
    num = 0
    for unit in mill.units_of(mill.sources):
        wanted = rows_to_measure(mill.sources, mill.plan.rules, unit).column("source_id").to_pylist()
        is_there = mill.series.stamp(unit) is not None
        known = mill.series.read(unit, ["source_id"]).column("source_id").to_pylist() if is_there else []
        num += len(set(wanted) - set(known))
    return num
