# SPDX-License-Identifier: Apache-2.0
"""`python -m reelmill info | verify | export`: look at a data set, check it, hand it on. Needs numpy and pyarrow."""

import argparse
import sys
from pathlib import Path
from typing import Any

from reelmill.captions import Captions
from reelmill.exports import FORMATS, Export
from reelmill.inspection import export_rows, info_lines, verify_view
from reelmill.views import View

EXPORT = """clips       one Parquet file with UltraVideo's column names, a row per kept clip, no tokens
datasets    a folder of Parquet with tokens and a card, for datasets.load_dataset(OUT)
webdataset  tar files: .json, .txt and a .npy per stream and scale
fastvideo   latents of one stream as FastVideo's trainers read them"""
LAYOUT: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}


def _export(view: View, options: argparse.Namespace) -> int:
    if options.format == "clips":
        return export_rows(view, options.out)
    grounding = ("model", "measured") if options.grounding == "any" else (options.grounding,)
    captions = Captions(grounding=grounding)
    what = Export(options.root, options.out, view.version, options.spec, captions, options.rows)
    return FORMATS[options.format](what)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reelmill", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="what the view holds: specs, buckets, counts, tables")
    verify = commands.add_parser("verify", help="read every byte again: hashes, counts, grids, ids in the vocabulary")
    export = commands.add_parser("export", help="hand it on in other formats", description=EXPORT, **LAYOUT)
    for command in (info, verify, export):
        command.add_argument("root", help="the data set: a directory or s3://...")
        command.add_argument("--version", default="latest", help="version of the view (default: latest)")
    export.add_argument("out", type=Path, help="file (clips) or empty folder to write")
    export.add_argument("--format", choices=["clips", *FORMATS], default="clips", help="default: clips")
    export.add_argument("--spec", help="tokenizer's spec id, if the view has several")
    export.add_argument("--grounding", choices=["model", "measured", "any"], default="model", help="captions (model)")
    export.add_argument("--rows", type=int, default=256, help="samples in a file (256)")
    options = parser.parse_args(argv)
    try:
        view = View.load(options.root, options.version)
        if options.command == "info":
            print("\n".join(info_lines(view)))
        elif options.command == "export":
            print(f"{_export(view, options)} rows written to {options.out}")
        else:
            faults = verify_view(view)
            print("\n".join(faults) or f"{view.version}: all files, counts, grids and ids are as the view says")
            return 1 if faults else 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
