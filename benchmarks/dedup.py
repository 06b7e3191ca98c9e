# SPDX-License-Identifier: Apache-2.0
"""Recall, time and memory of the semantic near-duplicate search.

    python -m benchmarks.dedup [--clips 1000000] [--size 512] [--kind directions|topics] [--json PATH]

Embeddings are random directions, the worst case for clusters, or spread around 3,000 topics. 1 % of them are planted
near another one, at a cosine of 0.95 to 0.98. Targets at 10^6 x 512 on 2 cores: recall 0.98, 10 minutes, 8 GiB.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

from operators.similar import cluster, leaders, normalised, similar_pairs

COSINES, THRESHOLD = (0.95, 0.98), 0.9499
TARGET_RECALL, TARGET_S, TARGET_GIB = 0.98, 600.0, 8.0
NUM_TOPICS, TOPIC_SPREAD = 3000, 0.8
AT_ONCE = 100_000


def embeddings(num: int, size: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """float32 [num, size] of length 1."""
    vectors_ND = rng.standard_normal((num, size), dtype=np.float32)
    if kind == "topics":
        topics = normalised(rng.standard_normal((NUM_TOPICS, size), dtype=np.float32))
        for start in range(0, num, AT_ONCE):
            part = vectors_ND[start : start + AT_ONCE]
            part *= TOPIC_SPREAD / size**0.5
            part += topics[rng.integers(0, NUM_TOPICS, len(part))]
    for start in range(0, num, AT_ONCE):
        vectors_ND[start : start + AT_ONCE] = normalised(vectors_ND[start : start + AT_ONCE])
    return vectors_ND


def plant(vectors_ND: np.ndarray, rng: np.random.Generator) -> set[int]:
    """Moves 1 % of the rows near another one; gives the pairs as first * N + second."""
    num = len(vectors_ND)
    chosen = rng.choice(num, num // 50, replace=False)
    first, second = chosen[: num // 100], chosen[num // 100 :]
    cosine = rng.uniform(*COSINES, (len(first), 1)).astype(np.float32)
    near = vectors_ND[first]
    aside = rng.standard_normal(near.shape, dtype=np.float32)
    aside -= np.einsum("nd,nd->n", aside, near)[:, None] * near
    vectors_ND[second] = normalised(cosine * near + np.sqrt(1 - cosine**2) * normalised(aside))
    return set((np.minimum(first, second) * num + np.maximum(first, second)).tolist())


def measure(num: int, size: int, kind: str) -> dict[str, Any]:
    """One run over freshly made embeddings."""
    rng = np.random.default_rng(0)
    vectors_ND = embeddings(num, size, kind, rng)
    planted = plant(vectors_ND, rng)
    wall, cpu = time.monotonic(), time.process_time()
    pairs = similar_pairs(vectors_ND, cluster(vectors_ND), THRESHOLD)
    leader = leaders(pairs, np.arange(num))
    found = set((pairs.first * num + pairs.second).tolist())
    return {
        "clips": num,
        "size": size,
        "kind": kind,
        "recall": len(planted & found) / len(planted),
        "pairs": len(found),
        "pairs_not_planted": len(found - planted),
        "dropped": int((leader != np.arange(num)).sum()),
        "wall_s": time.monotonic() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--kind", choices=("directions", "topics"), default="directions")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    result = measure(arguments.clips, arguments.size, arguments.kind)
    for name, value in result.items():
        print(f"{name:<18}{value:.3f}" if isinstance(value, float) else f"{name:<18}{value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    is_met = result["recall"] >= TARGET_RECALL and result["wall_s"] <= TARGET_S and result["peak_gib"] <= TARGET_GIB
    print("targets met" if is_met else "targets NOT met")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
