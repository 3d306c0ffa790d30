from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import sae_lab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What the Makefile installs: the package, these extras, JupyterLab and nbclient for the demo, and what builds it.
INSTALLED_EXTRAS = ("test", "docs", "dev")
BESIDE = ("jupyterlab", "nbclient", "hatchling", "editables")


def constraints() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), "a constraint is an exact version: name==version"
    return {canonicalize_name(name): version for name, version in pairs}


def requirements_of(lines: list[str]) -> list[Requirement]:
    found = [Requirement(line) for line in lines]
    return [r for r in found if r.name != "sae-lab" and (r.marker is None or r.marker.evaluate())]


def in_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what an import loads


def test_importing_the_package_loads_nothing_but_itself_and_the_standard_library():
    loaded = json.loads(
        in_fresh_python(
            "import sys; before = set(sys.modules); import sae_lab; dir(sae_lab); import json;"
            "print(json.dumps(sorted(set(sys.modules) - before)))"
        )
    )
    tops = {name.partition(".")[0] for name in loaded}
    assert "sae_lab" in tops
    assert tops - {"sae_lab"} <= sys.stdlib_module_names
    assert [name for name in loaded if name.startswith("sae_lab.")] == [], "rooms are loaded on first use"


@pytest.mark.parametrize("name", sae_lab.__all__)
def test_every_public_name_is_found(name):
    assert getattr(sae_lab, name) is not None
    assert name in dir(sae_lab)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Dashbord'"):
        sae_lab.Dashbord  # noqa: B018  # looking it up is what is tested


def test_the_version_is_the_same_everywhere():
    assert sae_lab.__version__ == PROJECT["version"]
    assert f"## {sae_lab.__version__}" in (ROOT / "CHANGELOG.md").read_text()


# --- extras, environment, constraints


def test_the_promised_extras_exist_and_all_names_the_others():
    assert {"test", "docs", "remote", "cluster", "scatter", "dev", "all"} <= EXTRAS.keys()
    (everything,) = (Requirement(line) for line in EXTRAS["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == EXTRAS.keys() - {"all"}


def test_the_conda_environment_installs_extras_that_exist_at_the_proven_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(line for line in environment["dependencies"] if str(line).startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.partition("=")[2] + ".0")
    pip = next(line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert "-c constraints.txt" in pip
    (editable,) = (line for line in pip if line.startswith("-e"))
    match = re.fullmatch(r"-e \.\[([\w,]+)\]", editable)
    assert match, editable
    assert set(match[1].split(",")) <= EXTRAS.keys()


def test_every_requirement_has_a_proven_version_that_fits_it():
    proven = constraints()
    lines = [*PROJECT["dependencies"], *BESIDE, *(line for extra in INSTALLED_EXTRAS for line in EXTRAS[extra])]
    unfit = [
        str(r) for r in requirements_of(lines) if not r.specifier.contains(proven.get(canonicalize_name(r.name), "0"))
    ]
    missing = [r.name for r in requirements_of(lines) if canonicalize_name(r.name) not in proven]
    assert (missing, unfit) == ([], [])


def test_what_the_requirements_need_in_turn_has_a_proven_version_too():
    proven = constraints()
    lines = [*PROJECT["dependencies"], *BESIDE, *(line for extra in INSTALLED_EXTRAS for line in EXTRAS[extra])]
    waiting = [(r.name, r.extras) for r in requirements_of(lines)]
    seen, missing = set(), set()
    while waiting:
        name, extras = waiting.pop()
        if (key := (canonicalize_name(name), frozenset(extras))) in seen:
            continue
        seen.add(key)
        if key[0] not in proven:
            missing.add(key[0])
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that this environment was not made with
        for need in map(Requirement, needs):
            environments = [{"extra": extra} for extra in (*extras, "")]
            if need.marker is None or any(need.marker.evaluate(environment) for environment in environments):
                waiting.append((need.name, need.extras))
    if "+cpu" not in importlib.metadata.version("torch"):
        missing = {name for name in missing if not is_cuda(name)}  # a CUDA torch brings these, and may
    assert missing == set()


def is_cuda(name: str) -> bool:
    return name == "triton" or name.startswith(("nvidia", "cuda", "cupy"))


def test_no_constraint_asks_for_a_cuda_package_or_for_one_build_of_torch():
    proven = constraints()
    # tests run triton's interpreter; its version is the one that the CUDA build of the proven torch asks for
    assert [name for name in proven if is_cuda(name)] == ["triton"]
    assert [version for version in proven.values() if "+" in version] == []
    assert "torch" in proven


def test_our_torch_requirement_accepts_every_build_of_the_proven_version():
    (torch,) = (r for r in requirements_of(PROJECT["dependencies"]) if r.name == "torch")
    version = constraints()["torch"]
    assert all(torch.specifier.contains(version + build) for build in ("", "+cpu", "+cu130"))


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> dict[str, int]:
    """Files of the wheel that hatchling builds, with their sizes."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    name = in_fresh_python(code).splitlines()[-1]
    with zipfile.ZipFile(folder / name) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    package = ROOT / "sae_lab"
    ours = {p.relative_to(ROOT).as_posix() for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    inside = {name for name in wheel if not name.startswith(f"sae_lab-{sae_lab.__version__}.dist-info/")}
    assert inside == ours
    assert f"sae_lab-{sae_lab.__version__}.dist-info/licenses/LICENSE" in wheel


def test_the_wheel_holds_the_script_and_style_of_each_widget(wheel):
    from sae_lab.widgets import _MODULES

    static = {name for name, size in wheel.items() if name.startswith("sae_lab/widgets/static/") and size > 0}
    widgets = {module for module in _MODULES.values() if not module.startswith("_")}
    for module in (
        "_common.js",
        "block.js",
        "host.js",
        "theme.css",
        *(f"{m}.{k}" for m in widgets for k in ("js", "css")),
    ):
        assert f"sae_lab/widgets/static/{module}" in static


def test_the_wheel_holds_the_demo_saes_in_30_megabytes(wheel):
    demo = {name: size for name, size in wheel.items() if name.startswith("sae_lab/saes/demo/")}
    weights = [name for name in demo if name.endswith("sae_weights.safetensors")]
    assert len(weights) >= 7  # four widths, and twins of three: the controls that a stitching is read beside
    assert all(name.replace("sae_weights.safetensors", "cfg.json") in demo for name in weights)
    assert sum(demo.values()) <= 30e6


# --- the tools that set things up


def run_tool(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", *command], cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_a_python_that_will_not_do_is_named_before_anything_is_made(tmp_path):
    done = run_tool("tools/install.sh", ".", VENV=str(tmp_path / "venv"), PYTHON=str(tmp_path / "python"))
    assert done.returncode == 1
    assert f"PYTHON={tmp_path}/python is not a working Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_wrong_chromium_is_named(tmp_path):
    done = run_tool("tools/chromium.sh", CHROMIUM=str(tmp_path / "chromium"))
    assert done.returncode == 1
    assert "is not a program" in done.stderr


def test_a_phase_that_fails_fails_the_run():
    done = run_tool("tools/phase.sh", "counting", "bash", "-c", "exit 3")
    assert done.returncode == 3
    assert "counting: FAILED" in done.stderr
    assert run_tool("tools/phase.sh", "counting", "true").returncode == 0
