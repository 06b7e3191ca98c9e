# SPDX-License-Identifier: Apache-2.0
"""`python -m reelmill info | verify | export`: look at a data set, check it, hand it on. Needs numpy and pyarrow."""

import argparse
import sys
from pathlib import Path

from reelmill.inspection import export_rows, info_lines, verify_view
from reelmill.views import View


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reelmill", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="what the view holds: specs, buckets, counts, tables")
    verify = commands.add_parser("verify", help="read every byte again: hashes, counts, grids, ids in the vocabulary")
    export = commands.add_parser("export", help="one joined Parquet file with UltraVideo's column names, no tokens")
    for command in (info, verify, export):
        command.add_argument("root", help="the data set: a directory or s3://...")
        command.add_argument("--version", default="latest", help="version of the view (default: latest)")
    export.add_argument("out", help="Parquet file to write")
    options = parser.parse_args(argv)
    try:
        view = View.load(options.root, options.version)
        if options.command == "info":
            print("\n".join(info_lines(view)))
        elif options.command == "export":
            print(f"{export_rows(view, Path(options.out))} rows written to {options.out}")
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
