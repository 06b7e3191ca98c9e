# SPDX-License-Identifier: Apache-2.0
"""Video autoencoders of diffusers: latents, their mean as the network gives it, the log-variance on request."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from reelmill.tokens import Scale, Stream, TokenizerSpec
from tokenization.contract import Payload
from tokenization.networks import NetworkCodec, NetworkTokenizer, torch_dtype

FLOAT16_MAX = 65504.0
TILED = ("AutoencoderKLWan", "AutoencoderKLQwenImage", "AutoencoderKLHunyuanVideo", "AutoencoderKLLTXVideo")
Statistics = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class DiffusersVae(NetworkTokenizer):
    """Latents [C, t, h, w] of windows of 1 + k n frames, k the network's own.

    Stored is the posterior's mean, not normalised; the spec has the statistics to normalise it with where the model's
    configuration has them (Wan, Qwen-Image: per channel; Cosmos: per channel and latent frame; Hunyuan: one factor).
    CogVideoX is left out: it does not give back as many frames as it took.

    Args:
        store_dtype: of the latents in the shards: float16, bfloat16 or float32.
        keeps_logvar: store the log-variance too, for trainers that sample.
        tile_px: larger frames are encoded in tiles of so many pixels square, which the class blends where they overlap;
            null: whole, at UHD sizes tens of GB of memory.
        overlap_px: of neighbouring tiles; recorded, as tiles change latents.

    Raises:
        ValueError: tiles that do not fit the network's positions, or of a class that has none.
    """

    name: ClassVar[str] = "diffusers_vae"
    classes: ClassVar[tuple[str, ...]] = (
        "AutoencoderKLWan",
        "AutoencoderKLQwenImage",
        "AutoencoderKLHunyuanVideo",
        "AutoencoderKLLTXVideo",
        "AutoencoderKLCosmos",
    )

    store_dtype: str = "float16"
    keeps_logvar: bool = False
    tile_px: int | None = None
    overlap_px: int = 64

    @property
    def model(self) -> str:
        return str(self.config["_class_name"])

    @property
    def geometry(self) -> tuple[int, int, int]:
        """(frames of a latent frame, pixels of a latent position, channels)."""
        if self.model in ("AutoencoderKLWan", "AutoencoderKLQwenImage"):
            by_t = 2 ** sum(map(bool, self.setting("temperal_downsample")))
            by = 2 ** (len(self.setting("dim_mult")) - 1) * (self.config.get("patch_size") or 1)
            return by_t, by, self.setting("z_dim")
        if self.model == "AutoencoderKLLTXVideo":
            halvings = 2 ** sum(map(bool, self.setting("spatio_temporal_scaling")))
            return self.setting("patch_size_t") * halvings, self.setting("patch_size") * halvings, self._channels
        return self.setting("temporal_compression_ratio"), self.setting("spatial_compression_ratio"), self._channels

    @property
    def _channels(self) -> int:
        return self.setting("latent_channels")

    @property
    def statistics(self) -> tuple[Statistics | None, Statistics | None]:
        """(mean, std) per latent frame and channel, one row if it is the same for all; null if they are not known."""
        mean, std = self.config.get("latents_mean"), self.config.get("latents_std")
        if mean and std:
            return self._rows(mean), self._rows(std)
        if self.model == "AutoencoderKLHunyuanVideo":
            return ((0.0,) * self._channels,), ((1 / self.setting("scaling_factor"),) * self._channels,)
        return None, None

    def _rows(self, values: list[float]) -> Statistics | None:
        channels = self.geometry[2]
        if len(values) % channels:  # a configuration made for another number of channels
            return None
        return tuple(tuple(map(float, row)) for row in np.reshape(values, (channels, -1)).T)

    @cached_property
    def spec(self) -> TokenizerSpec:
        by_t, by, channels = self.geometry
        mean, std = self.statistics
        one: dict[str, Any] = {
            "kind": "latent",
            "scales": (Scale(reduce=(1, 1, 1)),),
            "stride": (by_t, by, by),
            "groups": channels,
            "store_dtype": self.store_dtype,
            "axes": "GTHW",
        }
        streams = [Stream(name="pixel", mean=mean, std=std, **one)]
        if self.keeps_logvar and self.model == "AutoencoderKLCosmos":
            raise ValueError(f"weights {self.weights!r}: {self.model} has no log-variance; leave keeps_logvar off")
        if self.keeps_logvar:
            streams.append(Stream(name="pixel_logvar", role="logvar", **one))
        tiles = {} if self.tile_px is None else {"tile": self.tile_px, "overlap": self.overlap_px}
        self._check_tiles(by)
        return TokenizerSpec(
            name=self.model,
            family="kl",
            input=self.input_rule(by, (-1.0, 1.0)),
            time=self.time(by_t, 1),
            streams=tuple(streams),
            combine="single",
            decode={"kind": "diffusers", "class": self.model, "call": "decode(mean).sample"},
            **self.stated(**tiles),
        )

    def _check_tiles(self, by: int) -> None:
        if self.tile_px is None:
            return
        if self.model not in TILED:
            raise ValueError(
                f"weights {self.weights!r}: diffusers encodes {self.model} without tiles; leave tile_px off"
            )
        if not 0 < self.overlap_px < self.tile_px or self.tile_px % by or self.overlap_px % by:
            given = f"tile_px {self.tile_px}, overlap_px {self.overlap_px}"
            raise ValueError(f"{given}: give multiples of {by}, the overlap the smaller one")

    def load(self) -> "VaeCodec":
        import diffusers

        cls = getattr(diffusers, self.model)
        network = cls.from_pretrained(self.folder, use_safetensors=True, torch_dtype=torch_dtype(self.dtype))
        if self.tile_px is not None:
            step_px = self.tile_px - self.overlap_px
            network.enable_tiling(
                tile_sample_min_height=self.tile_px,
                tile_sample_min_width=self.tile_px,
                tile_sample_stride_height=step_px,
                tile_sample_stride_width=step_px,
            )
        return VaeCodec(self, network)


class VaeCodec(NetworkCodec):
    """See `DiffusersVae`."""

    def encode(self, frames_THWC: np.ndarray) -> Payload:
        stream, *beside = self.spec.streams
        posterior = self.module.encode(self.pixels_in(frames_THWC)).latent_dist
        payload = {"tokens_pixel_s0": posterior.mode()[0].float().cpu().numpy()}  # the mean
        if beside:
            payload["aux_pixel_logvar_s0"] = posterior.logvar[0].float().cpu().numpy()
        largest = float(np.max(np.abs(payload["tokens_pixel_s0"])))
        if stream.store_dtype == "float16" and not largest <= FLOAT16_MAX:
            raise ValueError(f"latents up to {largest:.3g} do not fit float16: set store_dtype to bfloat16")
        return payload

    def decode(self, payload: Payload, upto_scale: int | None = None) -> np.ndarray:
        latent_1CTHW = self.tensor(np.asarray(payload["tokens_pixel_s0"], np.float32))
        return self.pixels_out(self.module.decode(latent_1CTHW).sample)
