# SPDX-License-Identifier: Apache-2.0
"""What the documents say exists, exists: files, commands, options, and the command that CI runs."""

import re
from pathlib import Path

import pytest
import typer.main

from pipelines.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "ray_cluster.yaml",
    ROOT / "examples" / "kuberay_job.yaml",
]
FOLDERS = "reelmill|operators|captioning|tokenization|pipelines|tests|benchmarks|docs|examples|scripts"
IDS = [path.name for path in DOCUMENTS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_named_files_exist(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(rf"\b(?:{FOLDERS})/[\w/.-]+\.(?:py|md|yaml|html)\b", text))
    linked = {str((path.parent / link).relative_to(ROOT)) for link in re.findall(r"\]\(((?!http)[^)#]+)", text)}
    assert [name for name in sorted(named | linked) if not (ROOT / name).exists() and not name.startswith("out/")] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_named_commands_and_options_exist(path: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = path.read_text().replace("\\\n", " ")
    for command, rest in re.findall(r"python -m pipelines ([a-z-]+)([^\n`#]*)", text):
        assert command in commands, command
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known, f"{command}{rest}"


def test_named_benchmarks_exist() -> None:
    for path in DOCUMENTS:
        for module in re.findall(r"python -m (benchmarks\.\w+|reelmill)\b", path.read_text()):
            target = ROOT / module.replace(".", "/")
            assert target.with_suffix(".py").exists() or (target / "__main__.py").exists(), f"{path.name}: {module}"


def test_running_lists_every_option_of_run() -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    text = (ROOT / "docs" / "running.md").read_text()
    missing = [option for parameter in run.params for option in parameter.opts if option not in text]
    assert [option for option in missing if option.startswith("--")] == []


def test_ci_runs_the_readmes_test_command() -> None:
    command = "uv run pytest"
    assert f"\n{command}\n" in (ROOT / "README.md").read_text()
    assert re.search(rf"\b{command} 2>&1", (ROOT / ".ci" / "run").read_text())
