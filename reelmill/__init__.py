# SPDX-License-Identifier: Apache-2.0
"""The data contract of reelmill and the readers that trainers install.

Needs pyarrow and numpy only. `reelmill.shards` and `reelmill.clips` add torch (extra `torch`),
`reelmill.clips` adds PyAV (extra `video`); both import them on first use.
"""

__version__ = "0.1.0"
