# SPDX-License-Identifier: Apache-2.0
"""The numbers of `benchmarks.measure_speed` as tables."""

from collections.abc import Sequence
from typing import Any


def show_throughput(row: dict[str, Any]) -> None:
    """A clip's decoding against its measuring."""
    print(
        f"\n{row['clip']}: {row['width_px']}x{row['height_px']} {row['codec']} {row['pix_fmt']}, {row['fps']:g} fps, "
        f"{row['mbit_per_s']:g} Mbit/s, {row['frames']} frames, {row['threads']} thread(s), {row['repeats']} repeats"
    )
    print(f"  ms per frame: decode {row['decode_cpu_ms']:.2f} CPU, {row['decode_wall_ms']:.2f} wall;", end=" ")
    print(f"decode and measure {row['measure_cpu_ms']:.2f} CPU, {row['measure_wall_ms']:.2f} wall")
    print(f"  ratio {row['ratio_cpu']:.3f} CPU, {row['ratio_wall']:.3f} wall", flush=True)


def show_parts(rows: Sequence[dict[str, Any]]) -> None:
    """Milliseconds per frame of every view and meter, a column per clip; dearest first."""
    parts = {part for row in rows for part in row["parts_ms"]}

    def dearest(part: str) -> float:
        return -max(row["parts_ms"].get(part, 0.0) for row in rows)

    for number, row in enumerate(rows, 1):
        print(f"\n[{number}] {row['clip']}" if number == 1 else f"[{number}] {row['clip']}")
    print(f"{'CPU ms per frame':<20}" + "".join(f"{f'[{i}]':>9}" for i in range(1, len(rows) + 1)))
    for part in sorted(parts, key=dearest):
        print(f"{part:<20}" + "".join(f"{row['parts_ms'].get(part, 0.0):9.3f}" for row in rows))
    print(f"{'sum':<20}" + "".join(f"{sum(row['parts_ms'].values()):9.3f}" for row in rows), flush=True)


def show_models(rows: Sequence[dict[str, Any]]) -> None:
    """The networks, which are no part of the ratio."""
    for row in rows:
        print(f"\nnetworks, {row['clip']}, CPU:")
        for name, value in row.items():
            if name != "clip":
                print(f"  {name.replace('_', ' '):<32}{value:10.2f}")


def show_peer(row: dict[str, Any]) -> None:
    """Data-Juicer's operators against ours."""
    print(f"\n{row['clip']}: CPU seconds of Data-Juicer's operators")
    for operator in row["peer"]:
        print(f"  {operator['operator']:<26}{operator['cpu_s']:8.2f}   {operator['value']}")
    print(f"  all, flow at native size   {row['peer_cpu_s']:8.2f}   {row['ratio']:.1f} times ours")
    print(f"  all, flow at 270 rows      {row['peer_same_size_cpu_s']:8.2f}   {row['ratio_same_size']:.1f} times ours")
    print(f"  ours, the same signals     {row['ours_cpu_s']:8.2f}")
    print(f"  ours, every signal         {row['ours_every_signal_cpu_s']:8.2f}", flush=True)


def show_memory(row: dict[str, Any]) -> None:
    """Private memory of the decode child by length."""
    print(f"\n{row['clip']}: private memory of the decode child, GiB")
    for point in row["points"]:
        print(
            f"  {point['frames']:7d} frames   peak {point['peak_gib']:.3f}   last {point['last_gib']:.3f}", flush=True
        )
