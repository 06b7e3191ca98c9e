# SPDX-License-Identifier: Apache-2.0
"""Captions without weights: plain sentences made from measured columns and from text that came with the source.

Every sentence names the columns it was made from; a column that is null takes its sentences with it. What no column
says stays null: nothing measured tells subjects, places or shot scale. Two limits of the measurements are worded in:
a shift of the picture is a pan or a move, a growing picture is a zoom or a move; one lens cannot tell them apart.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from captioning.engines import CaptionResult, ClipFacts, Evidence, FramesRequest
from captioning.schema import CaptionTexts
from captioning.sentences import Sentence

