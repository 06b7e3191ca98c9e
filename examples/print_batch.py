# SPDX-License-Identifier: Apache-2.0
"""Prints one batch of tokens and captions, as a training loop would get it.

python examples/print_batch.py OUT
"""

import argparse

from reelmill.captions import Captions
from reelmill.shards import ShardDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="the data set: a directory or s3://...")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--scales", type=int, help="read the first n scales only; fewer scales read fewer bytes")
    options = parser.parse_args()

    tiers, captions = ("train", "condition_only"), Captions(grounding=("model", "measured"))
    dataset = ShardDataset(options.root, split=None, tiers=tiers, scales=options.scales, captions=captions)
    print(f"{len(dataset)} samples of spec {dataset.spec_id} ({dataset.spec.name}): {dataset.bucket_sizes}")
    loader = dataset.loader(options.batch_size, num_workers=options.workers)
    for batch in loader:
        print(f"bucket {batch['bucket']}")
        for name, ids in batch.items():
            if name.startswith("tokens_"):
                print(f"  {name}: {ids.dtype} {tuple(ids.shape)}, first ids {ids.flatten()[:6].tolist()}")
        for clip_id, caption in zip(batch["clip_id"], batch["caption"], strict=True):
            print(f"  {clip_id}: {caption or 'no caption'}")
        print(f"  resume from {loader.state_dict()}")
        break


if __name__ == "__main__":
    main()
