# SPDX-License-Identifier: Apache-2.0
"""The HieraTok-style model (`tokenization.hieratok`): a grid of ids or of latents per scale, each prefix decodable."""

from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from operators.weights import files_hash
from reelmill.tokens import Scale, Stream, TokenizerSpec
from tokenization.contract import Payload
from tokenization.networks import NetworkCodec, NetworkTokenizer, torch_dtype

if TYPE_CHECKING:
    import torch

TILES_AT_ONCE = 16
FILES = ("config.json", "model.safetensors")  # what decides tokens; a trainer's folder holds more


@dataclass(frozen=True, kw_only=True)
class HieraTok(NetworkTokenizer):
    """A model of `examples/train_tokenizer.py`: windows of 1 + n frames, n a multiple of its patch.

    Frames are cut into tiles of the size it was trained at, without overlap, which are coded one by one; a bucket is
    a multiple of that size. Trained with FSQ it gives ids, else the means of latents.

    Args:
        store_dtype: of latents in the shards: float16, bfloat16 or float32.
    """

    name: ClassVar[str] = "hieratok"
    classes: ClassVar[tuple[str, ...]] = ("HieraTok",)

    store_dtype: str = "float16"

    @cached_property
    def spec(self) -> TokenizerSpec:
        from tokenization.hieratok import read_config

        model = read_config(self.config, str(self.folder))
        scales = tuple(Scale(reduce=(1, by, by)) for by in model.reduces)
        if model.levels:
            groups = model.channels // len(model.levels)
            stream = Stream("pixel", "ids", scales, model.patch, groups=groups, vocab=prod(model.levels))
        else:
            stream = Stream(
                "pixel", "latent", scales, model.patch, groups=model.channels, store_dtype=self.store_dtype, axes="GTHW"
            )
        stated = self.stated(tile=[model.tile_px, model.tile_px], overlap=0, batch=f"{TILES_AT_ONCE} tiles")
        return TokenizerSpec(
            name="hieratok",
            family="fsq" if model.levels else "kl",
            input=self.input_rule(model.tile_px, (-1.0, 1.0)),
            time=self.time(model.patch[0], 1),
            streams=(stream,),
            combine="pyramid" if model.readout == "finest" or len(scales) == 1 else "residual_sum",
            combine_rule={"readout": model.readout, "model": asdict(model)},
            prefix="scale",
            decode={"kind": "tokenization.hieratok", "files": list(FILES)},
            **{**stated, "weights_sha256": files_hash(self.folder / name for name in FILES)},
        )

    def load(self) -> "HieraTokCodec":
        from tokenization.hieratok import HieraTok as Model

        return HieraTokCodec(self, Model.load(self.folder).to(torch_dtype(self.dtype)))

    def files_to_ship(self) -> dict[str, bytes]:
        """The model itself: trained here, it is nowhere else."""
        return {name: (self.folder / name).read_bytes() for name in FILES}


class HieraTokCodec(NetworkCodec):
    """See `HieraTok`."""

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        import torch

        stream, tile = self.spec.streams[0], self.module.config.tile_px
        rows, columns = frames_THWC.shape[1] // tile, frames_THWC.shape[2] // tile
        tiles_BTHWC = cut(self.pixels_in(frames_THWC)[0].movedim(0, -1), rows, columns)
        parts = [self._maps(batch_BTHWC) for batch_BTHWC in tiles_BTHWC.split(TILES_AT_ONCE)]
        payload = {}
        for k, maps in enumerate(zip(*parts, strict=True)):
            map_THWG = joined(torch.cat(maps), rows, columns)
            values = map_THWG.movedim(-1, 0) if stream.axes == "GTHW" else map_THWG
            payload[stream.column(k)] = (values if self.module.config.levels else values.float()).cpu().numpy()
        return payload

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        import torch

        stream, model = self.spec.streams[0], self.module
        num = len(stream.scales) if upto_scale is None else upto_scale + 1
        maps = [self._read(payload[stream.column(k)]) for k in range(num)]
        _, h, w = model.config.grids(1)[0]
        rows, columns = maps[0].shape[1] // h, maps[0].shape[2] // w
        num_frames = 1 + (maps[0].shape[0] - 1) * model.config.patch[0]
        tiles = [cut(map_THWG, rows, columns).flatten(1, 3).split(TILES_AT_ONCE) for map_THWG in maps]
        decoded = [model.decode(latents, num_frames) for latents in zip(*tiles, strict=True)]
        return self.pixels_out(joined(torch.cat(decoded), rows, columns).movedim(-1, 0)[None])

    def _maps(self, tiles_BTHWC: "torch.Tensor") -> list["torch.Tensor"]:
        """What is stored of some tiles: per scale ids or latents [B, t, h, w, G]."""
        latents, _ = self.module.encode(tiles_BTHWC)
        stored = [self.module.ids_of(values) for values in latents] if self.module.config.levels else latents
        grids = self.module.config.grids(tiles_BTHWC.shape[1])
        return [values_BNG.unflatten(1, grid) for values_BNG, grid in zip(stored, grids, strict=True)]

    def _read(self, values: np.ndarray) -> "torch.Tensor":
        """Latents [t, h, w, C] of a stored scale."""
        if not self.module.config.levels:
            return self.tensor(np.asarray(values))[0].movedim(0, -1)
        ids_THWG = self.tensor(np.asarray(values).reshape(*values.shape[:3], -1))[0]
        return self.module.values_of(ids_THWG)


def cut(map_THWC: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """[rows * columns, T, h, w, C]: a map as tiles."""
    t, height, width, c = map_THWC.shape
    split = map_THWC.reshape(t, rows, height // rows, columns, width // columns, c)
    return split.permute(1, 3, 0, 2, 4, 5).flatten(0, 1)


def joined(tiles_BTHWC: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """Inverse of `cut`."""
    return tiles_BTHWC.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4, 5).flatten(3, 4).flatten(1, 2)
