"""The rules of the house: imports point one way, imports are cheap, the pages tell the truth."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tbft"

#: Package or module -> what it may import from; what these may import from, it may as well.
ARROWS = {
    "text": [],
    "processes": [],
    "errors": [],
    "json_text": ["errors", "text"],
    "schema": ["errors", "text"],
    "files": ["errors"],
    "packing": ["errors"],
    "data": ["files", "json_text", "packing"],
    "blocks": ["errors", "packing"],
    "metering": ["files", "json_text", "schema"],
    "container": ["files", "blocks", "json_text", "schema"],
    "scenarios": ["data", "processes"],
    "models": ["data", "blocks"],
    "plan": ["blocks", "data", "metering"],
    "verification": ["blocks", "data"],
    "patches": ["container", "models"],
    "diagnosis": ["container", "plan", "verification"],
    "tuning": ["plan", "verification", "metering"],
    "choosing": ["diagnosis", "tuning"],
    "report": ["data", "files"],  # pages are made from plain values, so that a result can write its own
    "base": ["choosing", "models"],
    "loading": ["base"],
    "personalization": ["base", "patches", "report"],
    "request": ["base"],
    "pipeline": ["loading", "personalization", "request"],
    "front_door": ["loading"],
    "forecasting": ["loading"],
    "new_classes": ["loading", "patches"],
    "demo": ["pipeline", "scenarios"],
    "cli": ["demo", "new_classes", "front_door", "forecasting"],
}


def allowed(name: str) -> set[str]:
    """Everything that a package may import from, itself included."""
    return {name}.union(*(allowed(below) for below in ARROWS[name]))


def imports(path: Path) -> set[str]:
    """Names of the tbft modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [_module(node.module, a.name) for a in node.names]
        found |= {n.removeprefix("tbft.") for n in names if n.startswith("tbft.")}
    return found


def _module(package: str, name: str) -> str:
    """`from package import name` names a module where there is one of that name."""
    place = SOURCE.parent.joinpath(*package.split("."), name)
    is_module = place.with_suffix(".py").exists() or place.is_dir() or package == "tbft"
    return f"{package}.{name}" if is_module else package


def test_imports_follow_the_arrows():
    for path in SOURCE.rglob("*.py"):
        if path.parent == SOURCE and path.stem in ("__init__", "__main__"):
            continue
        own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for name in imports(path):
            top = name.partition(".")[0]
            if top == "__version__":
                continue
            assert top in allowed(own), f"{path.relative_to(ROOT)} imports tbft.{name}: no such arrow"


def imported_packages(path: Path) -> set[str]:
    """Top-level names of all packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_library_does_not_know_the_paper_and_the_wheel_does_not_carry_it():
    for path in SOURCE.rglob("*.py"):
        assert "paper" not in imported_packages(path), path
    assert '[tool.setuptools.packages.find]\nwhere = ["src"]' in (ROOT / "pyproject.toml").read_text()
    assert [p.name for p in (ROOT / "src").iterdir() if not p.name.endswith(".egg-info")] == ["tbft"]
    carried = {p.name for p in SOURCE.rglob("*") if p.is_file()} | {
        p.parent.name for p in SOURCE.rglob("*.py")
    }
    assert not {"reproduce", "paper", "published.json", "records.jsonl"} & carried
    with_paper = {
        "tbft",
        "paper",
        "torch",
        "numpy",
        "scipy",
        "matplotlib",
        "PIL",
        "tqdm",
        *sys.stdlib_module_names,
    }
    for path in (ROOT / "paper").rglob("*.py"):
        assert imported_packages(path) <= with_paper, path


def test_the_wheel_carries_every_file_that_the_package_reads():
    package = ROOT / "src" / "tbft"
    listed = re.search(
        r"^tbft = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )[1]
    carried = {path for glob in re.findall('"(.*)"', listed) for path in package.glob(glob)}
    present = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert present <= carried, sorted(str(path) for path in present - carried)


def test_modules_import_in_no_circle():
    graph = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        graph[name.removesuffix(".__init__")] = imports(path)
    visiting: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        assert name not in visiting, f"circle: {' -> '.join([*visiting, name])}"
        if name in done or name not in graph:
            return
        visiting.append(name)
        for other in graph[name] - {name}:
            visit(other)
        visiting.pop()
        done.add(name)

    for name in graph:
        if name != "__init__":
            visit(name)


def _run(code: str) -> str:
    # With compiled modules kept, as a user has them from the second start on.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


def test_importing_tbft_is_cheap_and_help_needs_no_torch():
    loaded = _run("import sys, tbft, tbft.cli as m; m.parser().format_help(); print('torch' in sys.modules)")
    assert loaded == "False"
    # What torch has left for the collector of garbage is not tbft's.
    code = "import gc, time, torch; gc.freeze(); t = time.process_time(); import tbft; "
    code += "tbft.personalize, tbft.read; "
    seconds = min(float(_run(code + "print(time.process_time() - t)")) for _ in range(3))
    assert seconds < 0.3, f"importing tbft costs {seconds:.2f} s beyond torch"


def test_every_public_name_is_there():
    import tbft

    for name in tbft.__all__:
        assert getattr(tbft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tbft.nothing


def test_no_function_takes_more_than_six_arguments():
    import tbft

    exempt = {(f.__module__, f.__name__) for f in (tbft.personalize, tbft.tune)}
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (module, node.name) in exempt:
                continue
            arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in arguments if name not in ("self", "cls")])
            assert count <= 6, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} takes {count} arguments"


def test_nothing_is_unpickled_blindly():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert text.count("torch.load(") == text.count("weights_only=True)"), path
        assert "allow_pickle=True" not in text, path


#: Everything that people read.
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "paper/README.md", "results/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
#: Pages whose blocks depend on each other; tests/test_pages.py runs them in order.
IN_ORDER = {page for page in PAGES if page.parent.parent.name == "docs" or page == ROOT / "README.md"}


def _code(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def _commands(page: Path, start: str) -> list[str]:
    """The arguments of the commands of a page that start in this way."""
    lines = (
        line.removeprefix("$ ")
        for code in [*_code(page, "sh"), *_code(page, "text")]
        for line in code.replace("\\\n", " ").splitlines()
        if code in _code(page, "sh") or line.startswith("$ ")
    )
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def _names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@pytest.mark.parametrize(
    "name", _names([page for page in PAGES if _code(page, "python") and page not in IN_ORDER])
)
def test_python_in_the_pages_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in _code(ROOT / name, "python"):
        exec(compile(code, name, "exec"), {})


@pytest.mark.parametrize("name", _names([page for page in PAGES if _commands(page, "tbft ")]))
def test_commands_in_the_pages_are_understood(name):
    from tbft.cli import parser

    for line in _commands(ROOT / name, "tbft "):
        parser().parse_args(shlex.split(line, comments=True))


@pytest.mark.parametrize("name", _names([page for page in PAGES if _commands(page, "python -m paper ")]))
def test_commands_of_the_paper_in_the_pages_are_understood(name):
    from paper.cli import parser

    for line in _commands(ROOT / name, "python -m paper "):
        parser().parse_args(shlex.split(line, comments=True))


def test_the_pages_that_show_code_are_among_those_that_are_tested():
    with_python = _names([page for page in PAGES if _code(page, "python")])
    with_commands = _names([page for page in PAGES if _commands(page, "tbft ")])
    assert {"README.md", "docs/data.md", "docs/how-to/model.md"} <= set(with_python)
    assert {"README.md", "CONTRIBUTING.md", "docs/energy.md"} <= set(with_commands)


def test_links_in_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_citation_names_this_version():
    from tbft import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_package_of_the_default_install_has_a_hash_and_the_tested_version():
    pins = (ROOT / "constraints.txt").read_text().lower().splitlines()
    newest = [line.partition(";")[0] for line in pins if not line.endswith('< "3.11"')]
    pinned = dict(line.split("==") for line in newest)
    lines = (ROOT / "requirements-hashed.txt").read_text().lower().splitlines()[1:]
    hashed = {}
    for line in lines:
        name, version = re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line).groups()
        hashed[name] = version.partition("+")[0]
    assert {"torch", "numpy", "safetensors", "tqdm", "pillow"} <= set(hashed)
    assert all(pinned[name] == version for name, version in hashed.items() if name in pinned)
