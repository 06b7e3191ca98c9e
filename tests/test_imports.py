# SPDX-License-Identifier: Apache-2.0
"""The shape of the project: which way imports go, what the light package needs, what no file may contain."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "reelmill": {"reelmill"},
    "operators": {"operators", "reelmill"},
    "captioning": {"captioning", "operators", "reelmill"},
    "tokenization": {"tokenization", "operators", "reelmill"},
    "pipelines": {"pipelines", "captioning", "tokenization", "operators", "reelmill"},
}
RAY_MODULES = {"pipelines/run.py"}
LIGHT = {"numpy", "pyarrow"}
NEEDS_TORCH = (
    "reelmill/torch_data.py"  # behind the extra [torch]; the readers import it when they are asked for a loader
)
HEAVY = {
    "ray",
    "torch",
    "torchvision",
    "transformers",
    "diffusers",
    "open_clip",
    "av",
    "cv2",
    "decord",
    "scenedetect",
    "polars",
    "s3fs",
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "core", "stuff"}
# Assembled, so that this file does not contain them.
MACHINE_TEXT = re.compile(
    "|".join(
        [
            "/wo" + "rk/",
            "/ro" + "ot/",
            r"py" + r"pi\.org",
            "python" + "hosted",
            r"registry\." + "npm",
            "arti" + "factory",
            r"download\." + "pytorch",
        ]
    )
)
SOURCES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Top-level packages imported anywhere below `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").split(".")[0]


def import_time(tree: ast.Module) -> Iterator[str]:
    """Packages imported when the module is: everything outside of functions and `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        else:
            waiting += ast.iter_child_nodes(node)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text()) for path in SOURCES}


def test_the_walk_sees_imports() -> None:
    tree = ast.parse("import a.b\nif x:\n  from c.d import e\ndef f():\n  import ray\nclass G:\n  import h")
    assert set(imports(tree)) == {"a", "c", "ray", "h"}
    assert set(import_time(tree)) == {"a", "c", "h"}


def test_arrows_go_one_way(trees: dict[str, ast.Module]) -> None:
    wrong = [
        f"{name} imports {package}"
        for name, tree in trees.items()
        for package in set(imports(tree)) & set(ALLOWED)
        if package not in ALLOWED[name.split("/")[0]]
    ]
    assert not wrong, wrong


def test_only_the_adapter_imports_ray(trees: dict[str, ast.Module]) -> None:
    assert {name for name, tree in trees.items() if "ray" in set(imports(tree))} == RAY_MODULES


def test_reelmill_needs_numpy_and_pyarrow_only(trees: dict[str, ast.Module]) -> None:
    allowed = LIGHT | {"reelmill"} | set(sys.stdlib_module_names)
    extras = {
        name: extra
        for name, tree in trees.items()
        if name.startswith("reelmill/") and (extra := set(import_time(tree)) - allowed)
    }
    assert extras == {NEEDS_TORCH: {"torch"}}


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_reelmill_imports_without_the_mill() -> None:
    """Also what a static look cannot see: with every heavy package absent, each module of reelmill loads."""
    light = [path for path in SOURCES if path.parent == ROOT / "reelmill" and name_of(path) != NEEDS_TORCH]
    modules = [f"reelmill.{path.stem}" for path in light if not path.stem.startswith("__")]
    code = (
        "import sys, importlib\n"
        f"for name in {sorted(HEAVY)!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print('ok')"
    )
    assert run_python(code) == "ok\n"


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, pipelines.cli\nprint(sorted(set(sys.modules) & set({sorted(HEAVY)!r})))"
    assert run_python(code) == "[]\n"


def test_no_vague_module_names() -> None:
    assert [name_of(path) for path in SOURCES if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES] == []


def tracked() -> list[Path]:
    """Files that git has or would take."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_every_source_names_its_licence() -> None:
    scripts = [
        path
        for path in tracked()
        if path.suffix in {".py", ".yaml", ".sh"} or path.name in {"check", "run", "Dockerfile"}
    ]
    assert len(scripts) > 50
    heads = {name_of(path): path.read_text().splitlines()[:2] for path in scripts if path.stat().st_size}
    missing = [
        name for name, head in heads.items() if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head)
    ]
    assert missing == []


def test_no_machine_or_registry_in_any_file() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{name_of(path)}: {match[0]}" for match in MACHINE_TEXT.finditer(text)]
    assert found == []
