# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML file that shows what a run found, kept, turned away and wrote, from what is on disk."""

from html import escape

from reelmill.storage import Store


def build_report(root: str) -> str:
    """The report on a data set as a self-contained HTML document.

    Args:
        root: the data set's directory or s3:// URI. Pictures are decoded from the sources, where they can be read.

    Raises:
        ValueError: there is no data set.
    """
    from pipelines.manifest import load_manifest, read_events
    from pipelines.report import census as counting
    from pipelines.report import details, page, pictures
    from pipelines.report.costs import costs
    from pipelines.report.distributions import distributions
    from pipelines.report.overview import failed_inputs, funnel, header, ignored_files
    from pipelines.report.reconstructions import reconstructions
    from pipelines.report.sheet import sheet
    from pipelines.report.timelines import timelines

    store = Store(root)
    manifest = load_manifest(store)
    if manifest is None:
        raise ValueError(f"{store.root} is no data set: it has no manifest.json")
    events = read_events(store)
    census = counting.take_census(store, manifest)
    kept = details.load_details(store, manifest, census.kept)
    rejected = details.load_details(store, manifest, census.rejected)
    pictures.add_strips(kept + rejected)
    kept.sort(key=details.place)
    shown = details.interesting_sources(rejected + kept)
    series = details.load_series(store, manifest, shown)
    rules = {rule["name"]: rule for rule in (manifest.get("recipe") or {}).get("rules", [])}
    num_rejected = census.tiers["reject"] + census.header_rejected - census.num_failed_clips
    num_kept = census.tiers["train"] + census.tiers["condition_only"]
    sections = [
        funnel(manifest, census),
        sheet("kept", "Kept clips", kept, num_kept, rules),
        sheet("rejected", "Rejected clips", rejected, num_rejected, rules),
        timelines(series, manifest, {d.pick.clip_id: d.pictures for d in kept + rejected}),
        reconstructions(store, manifest, kept),
        distributions(manifest, census),
        costs(events, census),
        failed_inputs(census),
        ignored_files(manifest),
    ]
    runs = [event for event in events if event["event"] == "run"]
    name = manifest.get("recipe_name", "recipe")
    made = f"Made by reelmill {manifest.get('reelmill', '')} from {store.root}. This file loads nothing from anywhere."
    return page.page(
        f"reelmill: {name}", header(manifest, runs, census), [s for s in sections if s is not None], escape(made)
    )
