# SPDX-License-Identifier: Apache-2.0
"""Weights from a path, from S3 and from the hub's cache: fetched once, verified, never silently another version."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from operators.weights import Need, Weights, locate, weights_hash
from pipelines.cli import app
from pipelines.model_weights import absence_report, absent_models, require_models
from pipelines.plan import build_plan
from pipelines.recipe import load_recipe, parse_recipe
from reelmill.storage import Store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELMILL_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("REELMILL_OFFLINE", raising=False)
    return tmp_path / "cache"


def test_a_local_file_is_taken_as_it_is_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert locate(Weights(str(path), digest)) == path
    with pytest.raises(ValueError, match=rf"sha256 is {digest}, the recipe says 0000"):
        locate(Weights(str(path), "0" * 64))
    with pytest.raises(FileNotFoundError, match="no such file or folder on this machine"):
        locate(Weights(str(tmp_path / "other")))


def test_a_name_is_looked_up_below_the_folder_of_weights(cache: Path) -> None:
    weights = Weights("vtss/infer.pth")
    assert Need(weights, note="fetch it").absence == f"vtss/infer.pth is not here or below {cache}: fetch it"
    (cache / "vtss").mkdir(parents=True)
    (cache / "vtss" / "infer.pth").write_bytes(b"w")
    assert locate(weights) == cache / "vtss" / "infer.pth"
    assert Need(weights).absence is None


@pytest.mark.parametrize("uri", ["hf://org/name", "hf://org/name@main", "hf://name@0123456"])
def test_a_hub_id_needs_a_commit(uri: str) -> None:
    with pytest.raises(ValueError, match="hf://ORG/NAME@COMMIT"):
        Weights(uri)


def test_a_bad_hash_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="is not 64 hex digits"):
        Weights("x.pt", "abc")


def test_s3_file_and_folder_come_once(s3_bucket: str, cache: Path) -> None:
    store = Store(s3_bucket)
    store.write_bytes("w/head.safetensors", b"a" * 1000)
    store.write_bytes("w/config.json", b"{}")
    one = Weights(f"{s3_bucket}/w/head.safetensors", hashlib.sha256(b"a" * 1000).hexdigest())
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(locate, [one] * 4))
    assert len(paths) == 1
    assert paths.pop().read_bytes() == b"a" * 1000
    folder = locate(Weights(f"{s3_bucket}/w/"))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "head.safetensors"]
    store.delete("w/head.safetensors")
    assert locate(one).is_file()  # already here
    assert locate(Weights(f"{s3_bucket}/w/", weights_hash(folder))) == folder
    with pytest.raises(FileNotFoundError, match="no such object"):
        locate(Weights(f"{s3_bucket}/w/none.pt"))


def test_a_wrong_object_is_not_kept(s3_bucket: str, cache: Path) -> None:
    Store(s3_bucket).write_bytes("w.pt", b"other")
    wrong = Weights(f"{s3_bucket}/w.pt", "1" * 64)
    with pytest.raises(ValueError, match="the recipe says 1111"):
        locate(wrong)
    assert not wrong.cached.exists()


def test_offline_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMILL_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"python -m pipelines weights RECIPE --fetch"):
        locate(Weights("hf://org/name@0123456789abcdef0123456789abcdef01234567"))


def recipe_with(tmp_path: Path, head: Path, *more: str) -> list[str]:
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")
    models = f"[{{op: embedding, backend: open_clip, model: 'local-dir:{folder}'}}, {{op: aesthetic, weights: {head}}}]"
    rule = "rules=[{name: pretty, column: aesthetic_mean, min: 4, gate: models}]"
    return [f"models={models}", rule, *more]


def test_what_is_absent_is_said_before_a_run_with_its_columns_and_rules(tmp_path: Path) -> None:
    plan = build_plan(load_recipe("quickstart", recipe_with(tmp_path, tmp_path / "none.pth")))
    absent = absent_models(plan)
    assert list(absent) == ["aesthetic"]
    said, rule = absence_report(plan, absent)
    assert "none.pth is not on this machine" in said
    assert "improved-aesthetic-predictor" in said
    assert "aesthetic_mean" in said
    assert "rule pretty will reject every clip" in rule
    with pytest.raises(ValueError, match="--require-models: aesthetic cannot run"):
        require_models(plan)
    (tmp_path / "clip").rename(tmp_path / "moved")
    assert absent_models(plan)["aesthetic"].endswith("not on this machine: " + plan.models[1].needs[0].note)
    head = tmp_path / "head.pth"
    head.write_bytes(b"x")
    later = build_plan(load_recipe("quickstart", recipe_with(tmp_path, head)))
    assert absent_models(later) == {}
    (tmp_path / "clip").rename(tmp_path / "gone")
    assert absent_models(later)["aesthetic"] == "it reads what embedding writes"


def test_the_command_lists_and_fetches(
    s3_bucket: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{s3_bucket}/head.pth"
    Store(s3_bucket).write_bytes("head.pth", b"w" * 2000)
    settings = recipe_with(tmp_path, Path("HERE"))
    overrides = [part for setting in settings for part in ("--set", setting.replace("HERE", uri))]
    monkeypatch.setenv("COLUMNS", "400")
    for more, code, where in (((), 1, "MISSING"), (("--fetch",), 0, str(cache)), ((), 0, str(cache))):
        with pytest.raises(SystemExit) as stop:
            app(["weights", "quickstart", *overrides, *more])
        assert stop.value.code == code
        out = capsys.readouterr().out
        assert where in out
        assert "Apache-2.0" in out


def test_a_caption_model_that_is_not_here_is_said_too(tmp_path: Path) -> None:
    captions = {"engine": "transformers", "model": {"uri": str(tmp_path / "vlm")}}
    plan = build_plan(parse_recipe({"recipe": "r", "captions": captions}))
    (line,) = absence_report(plan, absent_models(plan))
    assert line.startswith("caption cannot run: ")
    assert "Summarized Description" in line
    with pytest.raises(ValueError, match="--require-models: caption cannot run"):
        require_models(plan)
