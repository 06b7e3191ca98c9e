# SPDX-License-Identifier: Apache-2.0
"""What a caption model is given of real clips, per tier: frames, size, tokens; and the stage against the bare model.

    python -m benchmarks.caption [--clips DIR] [--family qwen3_vl] [--json PATH]
    python -m benchmarks.caption --model DIR|hf://ORG/NAME@COMMIT [--device cuda] [--clips DIR]

Without a model: visual tokens per look and clip, as planned, beside those of native frames, and the CPU seconds of
decoding what was planned. With one, besides: prefill tokens over all questions of a clip, and output tokens a second of
the caption stage over those of `generate` alone on the same inputs and lengths (target 0.95, on a GPU).
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run by its path

from captioning.budget import RULES, TIERS, PixelRule, Tier
from captioning.config import Budget, Decoding, LocalModel
from captioning.conversation import Question, Reply
from captioning.engines import Clip, ClipFacts, FramesRequest
from captioning.looks import parts_of, plan_parts, see
from captioning.model_engine import ModelSettings
from captioning.schema import Plan
from operators.contract import RowError
from operators.decode_child import DecodeChild

SHARED = Path(__file__).parents[2] / "shared" / "clips"
SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
CHUNK_S = Budget().chunk_s
TARGET = 0.95


def requests_of(folder: Path) -> Iterator[tuple[str, FramesRequest]]:
    """Name and frames of every file that opens, as one clip each."""
    from operators.probe import Probe
    from pipelines.listing import list_sources

    probe = Probe()
    state = probe.setup()
    suffixes = tuple(suffix[1:] for suffix in SUFFIXES)
    for row in probe.process(state, list_sources(str(folder), suffixes, ()).rows).to_pylist():
        if row["error_kind"] is None and row["media"] == "video" and (pts := _pts(row["uri"])):
            base = (row["time_base_num"], row["time_base_den"])
            size = (row["width_px"], row["height_px"])
            yield row["relpath"], FramesRequest(row["uri"], pts[0], pts, base, size, row["pixel_aspect"] or 1.0)
    probe.close(state)


def _pts(uri: str) -> tuple[int, ...]:
    import av

    with av.open(uri) as container:
        return tuple(sorted(p.pts for p in container.demux(video=0) if p.pts is not None and not p.is_discard))


def planned(name: str, frames: FramesRequest, tier: Tier, rule: PixelRule, child: DecodeChild) -> dict[str, Any]:
    """One line: what a tier shows of a clip, and what native frames would cost."""
    parts = parts_of(frames, CHUNK_S)
    shown = plan_parts(parts, frames, {}, Budget(), tier, rule)
    plan = shown.frames
    times = plan.grid_thw[0]
    native = times * (frames.size_px[1] // rule.factor) * (frames.size_px[0] // rule.factor)
    line = {
        "clip": name,
        "tier": tier.name,
        "looks": len(parts),
        "frames": len(plan.frame_indices),
        "size": f"{plan.width_px}x{plan.height_px}",
        "tokens_per_look": plan.num_tokens,
        "tokens": plan.num_tokens * len(parts),
        "native_tokens": native * len(parts),
    }
    started = _children_s()
    try:
        see(parts, shown, frames, child)
    except RowError as error:
        return {**line, "error": str(error)}
    child.close()  # a child's CPU time is counted when it has ended
    return {**line, "decode_cpu_s": round(_children_s() - started, 2)}


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def stage_against_bare(model: LocalModel, clips: list[FramesRequest], tier: Tier) -> dict[str, Any]:
    """Output tokens a second of the stage, and of `generate` alone over the same inputs and lengths."""
    from captioning.transformers_engine import TransformersEngine, TransformersModel

    asked: list[tuple[Question, Reply]] = []
    ask = TransformersModel._generate

    def noted(self: Any, question: Question) -> Reply:
        reply = ask(self, question)
        asked.append((question, reply))
        return reply

    budget, decoding = Budget(tiers=(tier,)), Decoding()
    engine = TransformersEngine(
        ModelSettings(plan=Plan.GROUPED, budget=budget, decoding=decoding, language=None), model
    )
    engine.start()
    nothing = ClipFacts({column.name: None for column in engine.reads})
    TransformersModel._generate = noted  # type: ignore[method-assign]
    started = time.monotonic()
    results = engine.caption_all([Clip(nothing, frames, {}) for frames in clips])
    stage_s = time.monotonic() - started
    TransformersModel._generate = ask  # type: ignore[method-assign]
    bare_s = sum(_bare_s(engine._loaded, question, reply.num_output_tokens) for question, reply in asked)
    engine.close()
    num_tokens = sum(reply.num_output_tokens for _, reply in asked)
    return {
        "statuses": [result.status for result in results],
        "prefill_tokens": [result.columns.get("num_prompt_tokens") for result in results],
        "visual_tokens": [result.columns.get("num_visual_tokens") for result in results],
        "output_tokens": num_tokens,
        "stage_tokens_per_s": num_tokens / stage_s,
        "bare_tokens_per_s": num_tokens / bare_s,
        "ratio": bare_s / stage_s,
    }


def _bare_s(loaded: Any, question: Question, num_tokens: int) -> float:
    import torch

    inputs = loaded._inputs(question.messages).to(loaded._device)
    started = time.monotonic()
    with torch.inference_mode():
        loaded._network.generate(**inputs, do_sample=False, min_new_tokens=num_tokens, max_new_tokens=num_tokens)
    if loaded._device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - started


def show(lines: list[dict[str, Any]]) -> None:
    """A table for people."""
    print(
        f"{'clip':<40}{'tier':<6}{'looks':>6}{'frames':>7}{'size':>11}{'tokens':>9}{'native':>10}{'decode CPU s':>14}"
    )
    for line in lines:
        end = f"{line['decode_cpu_s']:>14}" if "error" not in line else f"  {line['error'][:60]}"
        print(
            f"{line['clip'][:39]:<40}{line['tier']:<6}{line['looks']:>6}{line['frames']:>7}{line['size']:>11}"
            f"{line['tokens']:>9}{line['native_tokens']:>10}{end}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=SHARED)
    parser.add_argument("--family", choices=sorted(RULES), default="qwen3_vl")
    parser.add_argument("--model", help="checkpoint of the family: a folder, or hf://ORG/NAME@COMMIT")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    if not arguments.clips.is_dir():
        parser.error(f"--clips {arguments.clips}: there is no such folder")
    found, child, rule = list(requests_of(arguments.clips)), DecodeChild(6.0), RULES[arguments.family]
    lines = [planned(name, frames, tier, rule, child) for name, frames in found for tier in TIERS.values()]
    show(lines)
    result: dict[str, Any] = {"planned": lines}
    if arguments.model:
        model = LocalModel(uri=arguments.model, precision=arguments.precision, device=arguments.device)
        good = [frames for name, frames in found if not any("error" in line for line in lines if line["clip"] == name)]
        result["stage"] = stage_against_bare(model, good, TIERS["low"])
        print(json.dumps(result["stage"], indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    return int(arguments.device == "cuda" and bool(arguments.model) and result["stage"]["ratio"] < TARGET)


if __name__ == "__main__":
    sys.exit(main())
