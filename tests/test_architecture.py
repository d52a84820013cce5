"""The shape of the program: which package may know which, what importing costs, and what must not be left lying."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOWER = {"stream": set[str](), "gateway": {"stream"}, "profiler": {"gateway", "stream"}, "grafana": {"stream"}}
"""Each package, and those it may import."""
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in LOWER
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that a piece of code imports, inside functions too: `from a import b` is a and a.b."""
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, "imports are absolute"
            assert found.module is not None
            yield found.module
            yield from (f"{found.module}.{alias.name}" for alias in found.names)


IMPORTS = {name: set(imported(ast.parse(path.read_text(encoding="utf-8")))) for name, path in FILES.items()}


def top(name: str) -> str:
    return name.partition(".")[0]


def test_the_packages_are_there() -> None:
    assert {top(name) for name in FILES} == set(LOWER)
    assert len(FILES) > 30


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name: str) -> None:
    known = {top(other) for other in IMPORTS[name]} & set(LOWER)
    assert known <= {top(name)} | LOWER[top(name)]


@pytest.mark.parametrize("name", FILES)
def test_heavy_and_foreign_packages_stay_in_their_places(name: str) -> None:
    known = {top(other) for other in IMPORTS[name]}
    assert ("litellm" in known) <= (name == "gateway.litellm_transport")
    assert ("faust" in known) <= (name == "stream.app")
    assert bool(known & {"opentelemetry", "google"}) <= (name == "gateway.otlp_wire")
    assert bool(known & {"torch", "transformers"}) <= (name == "profiler.measure")
    assert ("aiohttp" in known) <= (top(name) != "stream" or name == "stream.worker_http")
    assert not known & {"tests", "pytest", "hypothesis", "orjson", "pydantic"}


def test_no_module_needs_itself() -> None:
    graph = {name: {other for other in IMPORTS[name] if other in FILES and other != name} for name in FILES}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("package", LOWER)
def test_a_package_itself_is_light(package: str) -> None:
    assert not IMPORTS[package]


def loaded_by(*modules: str) -> set[str]:
    """Import modules in a fresh interpreter; the top-level packages that are loaded then."""
    code = f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return {top(name) for name in done.stdout.split()}


def test_the_whole_stream_core_imports_without_servers_and_models() -> None:
    core = [name for name in FILES if top(name) == "stream" and name not in ("stream.app", "stream.worker_http")]
    assert not loaded_by(*core) & {
        "gateway",
        "profiler",
        "aiohttp",
        "faust",
        "kafka",
        "litellm",
        "torch",
        "numpy",
        "transformers",
    }


@pytest.mark.parametrize("name", ["gateway.cli", "gateway.app", "gateway.run"])
def test_the_gateway_starts_without_what_it_may_never_need(name: str) -> None:
    assert not loaded_by(name) & {
        "profiler",
        "litellm",
        "torch",
        "numpy",
        "faust",
        "aiokafka",
        "kafka",
        "opentelemetry",
        "google",
        "transformers",
        "openai",
        "httpx",
        "pytest",
    }


def test_commands_answer_before_they_import_a_server() -> None:
    assert not loaded_by("gateway.cli", "profiler.cli", "stream.cli") & {"aiohttp", "uvloop", "kafka", "aiokafka"}


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_left_for_later(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]
    assert not [mark for mark in marks if mark in text]


@pytest.mark.parametrize("name", FILES)
def test_files_are_of_a_size_to_be_read(name: str) -> None:
    assert FILES[name].read_text(encoding="utf-8").count("\n") <= 400


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", node


def test_functions_are_short() -> None:
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for _, node in functions())
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[int(len(lengths) * 0.95)] <= 50


def test_what_is_public_is_described() -> None:
    undescribed = [
        name for name, path in FILES.items() if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not undescribed
