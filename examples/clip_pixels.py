# SPDX-License-Identifier: Apache-2.0
"""Reads kept clips as pixels, for training a tokenizer.

python examples/clip_pixels.py OUT
"""

import argparse

from reelmill.clips import ClipDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="the data set: a directory or s3://...")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=256, help="side of the square crops in pixels")
    options = parser.parse_args()

    clips = ClipDataset(options.root, split=None, num_frames=options.frames, size=options.size)
    print(f"{len(clips)} clips of at least {options.frames} frames and {options.size} pixels")
    for batch in clips.loader(batch_size=2):
        frames_BTHWC = batch["frames_BTHWC"]
        print(f"{tuple(frames_BTHWC.shape)} {frames_BTHWC.dtype}, mean {frames_BTHWC.float().mean():.1f}")
        print(f"from pts {[pts[0] for pts in batch['frame_pts']]} of clips {batch['clip_id']}")
        break


if __name__ == "__main__":
    main()
