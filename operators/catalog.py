# SPDX-License-Identifier: Apache-2.0
"""Names that a recipe may use, and where they live. Nothing is imported until a name is asked for."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module

from operators.contract import Meter, Operator

METERS: dict[str, str] = {
    "banding": "operators.meters.banding:Banding",
    "blend": "operators.meters.blend:Blend",
    "blockiness": "operators.meters.blockiness:Blockiness",
    "border": "operators.meters.border:Border",
    "color": "operators.meters.color:Color",
    "content": "operators.meters.content:Content",
    "detail": "operators.meters.detail:Detail",
    "exposure": "operators.meters.exposure:Exposure",
    "farneback": "operators.meters.farneback:Farneback",
    "flicker": "operators.meters.flicker:Flicker",
    "freeze": "operators.meters.freeze:Freeze",
    "grey": "operators.meters.grey:Grey",
    "interlace": "operators.meters.interlace:Interlace",
    "layout": "operators.meters.layout:Layout",
    "motion": "operators.meters.motion:Motion",
    "noise": "operators.meters.noise:Noise",
    "redundancy": "operators.meters.redundancy:Redundancy",
    "resolution": "operators.meters.resolution:Resolution",
    "sharpness": "operators.meters.sharpness:Sharpness",
    "sidefill": "operators.meters.sidefill:SideFill",
    "transnet": "operators.meters.transnet:Transnet",
    "video_hash": "operators.meters.video_hash:VideoHash",
}
OPERATORS: dict[str, str] = {
    "aesthetic": "operators.heads:Aesthetic",
    "defects": "captioning.defects:Defects",
    "embedding": "operators.embedding:Embedding",
    "end_similarity": "operators.ends:EndSimilarity",
    "faces": "operators.faces:Faces",
    "flow": "operators.flow:Flow",
    "nsfw": "operators.heads:Nsfw",
    "pii": "operators.pii:Pii",
    "technical": "operators.technical:Technical",
    "text": "operators.text:Text",
    "text_features": "operators.text_features:TextFeatures",
    "topics": "operators.topics:Topics",
    "video_clip_score": "operators.video_clip_score:VideoClipScore",
    "vtss": "operators.vtss:Vtss",
}


def meter_class(name: str) -> type[Meter]:
    """The meter called `name`. Raises ValueError with the nearest known name."""
    return _load("meter", name, METERS)


def operator_class(name: str) -> type[Operator]:
    """The operator called `name`. Raises ValueError with the nearest known name."""
    return _load("operator", name, OPERATORS)


def _load(what: str, name: str, catalog: Mapping[str, str]) -> type:
    if name not in catalog:
        near = get_close_matches(name, catalog, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(catalog))}"
        raise ValueError(f"unknown {what} {name!r}; {hint}")
    module, _, attribute = catalog[name].partition(":")
    return getattr(import_module(module), attribute)
