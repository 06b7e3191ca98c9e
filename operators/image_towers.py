# SPDX-License-Identifier: Apache-2.0
"""Image encoders from files on this machine: open_clip's, and CLIP, SigLIP and plain vision models of transformers.

Weights are fetched only from a place that is written as one (`hf://`, `s3://`), no code of a checkpoint is ever run,
and a weight that the files lack is an error: both libraries would otherwise go on with random numbers and a log line.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from operators.weights import (
    HASHED_SUFFIXES,
    WEIGHT_SUFFIXES,
    Need,
    Weights,
    cache_folder,
    files_hash,
    is_remote,
    locate,
)

LOCAL_DIR = "local-dir:"


@dataclass(frozen=True, slots=True)
class ImageTower:
    """A loaded image encoder.

    Args:
        weights_hash: 64 hex digits: sha256 over the checkpoint's files.
        short_px: the short side that its preprocessing wants of a frame; more is scaled down, less is scaled up.
        preprocess: uint8 RGB [H, W, 3] -> float32 tensor [3, h, w] as the model's own configuration says.
        encode: float32 tensor [N, 3, h, w] on the device -> float32 tensor [N, D] there, not normalised.
    """

    weights_hash: str
    short_px: int
    preprocess: Callable[[np.ndarray], Any]
    encode: Callable[[Any], Any]


def _files_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.suffix in HASHED_SUFFIXES]


def checkpoint_hash(folder: Path) -> str:
    """sha256 over the files of a checkpoint of transformers."""
    return files_hash(_files_of(folder))


def open_clip_tower(model: str, weights: str | None, device: str) -> ImageTower:
    """The image tower of an open_clip model.

    Args:
        model: `local-dir:/folder` with open_clip_config.json and the weights, or the name of an architecture.
        weights: checkpoint file of a named architecture (safetensors, or a pickle read with `weights_only`).
        device: cpu or cuda.

    Raises:
        ValueError: a model that is neither, or a folder whose checkpoint does not fit its configuration.
        FileNotFoundError: the folder or the checkpoint is not on this machine.
    """
    import open_clip
    import torch

    model, weights = open_clip_here(model, weights)
    files = open_clip_files(model, weights)
    try:
        loaded: Any = open_clip.create_model_from_pretrained(
            model, pretrained=weights, precision="fp32", weights_only=True
        )
    except RuntimeError as error:
        raise ValueError(f"image model: the weights of {model!r} do not load: {error}") from error
    network, preprocess = loaded
    network.eval().to(device)
    size = network.visual.preprocess_cfg["size"]

    def encode(pixels_NCHW: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network.encode_image(pixels_NCHW).float()

    return ImageTower(files_hash(files), size if isinstance(size, int) else max(size), _through_pil(preprocess), encode)


def open_clip_files(model: str, weights: str | None) -> list[Path]:
    """The checkpoint's files. Raises as `open_clip_tower`."""
    if model.startswith(LOCAL_DIR):
        folder = Path(model.removeprefix(LOCAL_DIR))
        if weights is not None:
            raise ValueError(f"image model: weights is {weights!r}, but {model!r} holds its own; leave weights out")
        if not (folder / "open_clip_config.json").is_file():
            hint = _how_to_fetch("ORG/NAME", str(folder))
            raise FileNotFoundError(f"image model: there is no open_clip_config.json in {folder}; {hint}")
        if not any(path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir()):
            raise FileNotFoundError(f"image model: {folder} has a configuration but no weights")
        return _files_of(folder)
    if ":" in model:
        hint = _how_to_fetch(model.partition(":")[2], "DIR")
        raise ValueError(f"image model: model is {model!r}, which would be downloaded by every worker; {hint}")
    if weights is None:
        raise ValueError(f"image model: {model!r} is an open_clip architecture; give `weights`, a checkpoint file")
    if not Path(weights).is_file():
        raise FileNotFoundError(f"image model: weights is {weights!r}, and there is no such file on this machine")
    return [Path(weights)]


def open_clip_here(model: str, weights: str | None) -> tuple[str, str | None]:
    """(model, weights) as open_clip takes them, a `hf://` or `s3://` place fetched once a node."""
    if is_remote(model):
        model = LOCAL_DIR + str(locate(Weights(model)))
    return model, str(locate(Weights(weights))) if weights is not None and is_remote(weights) else weights


def checkpoint_needs(backend: str, model: str, weights: str | None, revision: str | None) -> tuple[Need, ...]:
    """What `open_clip_tower` or `transformers_tower` reads."""
    if weights is not None:
        return (Need(Weights(weights), note=f"a checkpoint of {model}"),)
    if backend == "open_clip":
        place = model.removeprefix(LOCAL_DIR)
        known = model.startswith(LOCAL_DIR) or is_remote(model)
        return (Need(Weights(place), note=_how_to_fetch("ORG/NAME", place)),) if known else ()
    if revision is not None and not _in_hub_cache(model, revision):
        return (Need(Weights(f"hf://{model}@{revision}")),)
    if revision is not None:
        return ()
    note = "give a folder, or a hub id with its revision"
    if re.fullmatch(r"[\w-]+/[\w.-]+", model):
        note = f"if it is a hub id, `hf download {model} --local-dir {cache_folder() / model}`"
    return (Need(Weights(model), note=note),)


def _in_hub_cache(model: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _how_to_fetch(repo: str, folder: str) -> str:
    return f"`hf download {repo} --local-dir {folder}` fetches one, then give model: {LOCAL_DIR}{folder}"


def _through_pil(transform: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    from PIL import Image

    return lambda frame_HWC: transform(Image.fromarray(frame_HWC))


def transformers_tower(model: str, revision: str | None, device: str) -> ImageTower:
    """The image tower of a transformers checkpoint: CLIP's projection, SigLIP's or another model's pooled output.

    Args:
        model: a folder, or a hub id whose revision lies in the local hub cache.
        revision: commit of a hub id; null for a folder.
        device: cpu or cuda.

    Raises:
        ValueError: weights are missing from the files, or the model has no pooled output.
        FileNotFoundError: the checkpoint is not on this machine; the message tells how to fetch it.
    """
    import torch
    from transformers import AutoImageProcessor

    folder = checkpoint_folder(model, revision)
    network, output = _vision_model(folder)
    network.eval().to(device)
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def preprocess(frame_HWC: np.ndarray) -> torch.Tensor:
        return processor(images=[frame_HWC], input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]

    def encode(pixels_NCHW: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return getattr(network(pixel_values=pixels_NCHW), output).float()

    return ImageTower(checkpoint_hash(folder), _longest(processor.size), preprocess, encode)


def _longest(size: Any) -> int:
    """The largest number of a processor's size: `shortest_edge`, or height and width."""
    return max(value for value in dict(size).values() if value is not None)


def checkpoint_folder(model: str, revision: str | None) -> Path:
    """The folder of a checkpoint; a hub id is looked up on this machine only, `hf://` and `s3://` are fetched."""
    if is_remote(model):
        return locate(Weights(model))
    if (here := Weights(model).cached).is_dir():
        if revision is not None:
            raise ValueError(f"image model: revision is {revision!r}, but {model!r} is a folder; leave revision out")
        return here
    if revision is None:
        raise FileNotFoundError(f"image model: there is no folder {model!r}; of a hub id, give the revision too")
    fetched = Weights(f"hf://{model}@{revision}").cached  # by `python -m pipelines weights RECIPE --fetch`
    folder = _in_hub_cache(model, revision) or (fetched if fetched.exists() else None)
    if folder is None:
        raise FileNotFoundError(
            f"image model: {model!r} at revision {revision} is not on this machine; fetch it with "
            f"`hf download {model} --revision {revision}` or `python -m pipelines weights RECIPE --fetch`"
        )
    return folder


def _vision_model(folder: Path) -> tuple[Any, str]:
    """The model and the name of the output that is the image's embedding."""
    import torch
    from transformers import AutoConfig, AutoModel, CLIPVisionModelWithProjection, SiglipVisionModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind = config.model_type
    model_class, output = {
        "clip": (CLIPVisionModelWithProjection, "image_embeds"),
        "clip_vision_model": (CLIPVisionModelWithProjection, "image_embeds"),
        "siglip": (SiglipVisionModel, "pooler_output"),
        "siglip_vision_model": (SiglipVisionModel, "pooler_output"),
    }.get(kind, (AutoModel, "pooler_output"))
    if kind == "siglip":
        config = config.vision_config
    if kind == "clip":  # the shared projection is stated beside the towers; the vision tower's own entry may be stale
        config.vision_config.projection_dim = config.projection_dim
        config = config.vision_config
    network, loaded = model_class.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ValueError(f"image model: {folder} lacks {len(missing)} weights of its {kind} model: {missing[:3]} ...")
    return network, output


def frame_embeddings(encode: Callable[[Any], Any], frames_CHW: Sequence[Any]) -> list[tuple[np.ndarray, int]]:
    """Each frame's L2-normalised embedding, float32 [D], and the number of pixels that the model got of it.

    Args:
        encode: `tower.encode`, or that in batches.
        frames_CHW: from `tower.preprocess`; a model that takes any shape gets frames of one shape together.
    """
    import torch

    found: list[Any] = [None] * len(frames_CHW)
    for shape in dict.fromkeys(tuple(frame.shape) for frame in frames_CHW):
        places = [place for place, frame in enumerate(frames_CHW) if tuple(frame.shape) == shape]
        features_ND = encode(torch.stack([frames_CHW[place] for place in places]))
        vectors_ND = torch.nn.functional.normalize(features_ND, dim=-1).numpy()
        for place, vector_D in zip(places, vectors_ND, strict=True):
            found[place] = (vector_D, shape[-2] * shape[-1])
    return found
