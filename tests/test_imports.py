"""Imports go one way: a room knows only the rooms before it."""

import ast
import pathlib
import subprocess
import sys

import pytest

import iql_jax

PACKAGE = pathlib.Path(iql_jax.__file__).parent
# Every room may import the contracts and those before it; what is not listed stands on top.
CONTRACTS = ("errors", "types", "config")
ROOMS = ("agents", "envs", "data", "report", "training")
AGENTS_NEED = {"jax", "flax", "optax", "numpy", "iql_jax"}  # NumPy is part of what JAX needs


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """Returns the dotted names that the module at `path` imports, lazily or not."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(dotted_or_path):
    """Returns the room of a module of the package: the part after `iql_jax`."""
    if isinstance(dotted_or_path, pathlib.Path):
        return dotted_or_path.relative_to(PACKAGE).with_suffix("").parts[0]
    return [*dotted_or_path.split("."), ""][1]


def breaches(path):
    """Returns the imports by which the module at `path` breaks the order."""
    here = room(path)
    if here in CONTRACTS:
        allowed = set(CONTRACTS[: CONTRACTS.index(here)]) - {"types"}
    elif here in ROOMS:
        allowed = {*CONTRACTS, *ROOMS[: ROOMS.index(here) + 1]}
    else:
        return []
    ours = {name for name in imported(path) if name.split(".")[0] == "iql_jax"}
    return sorted(name for name in ours if room(name) not in allowed)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(path):
    assert breaches(path) == []


def test_a_breach_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "envs").mkdir()
    path = tmp_path / "envs" / "bad.py"
    path.write_text("def f():\n    from iql_jax.data import raw\n    return raw\n")
    assert breaches(path) == ["iql_jax.data.raw"]


@pytest.mark.parametrize("path", sorted((PACKAGE / "agents").glob("*.py")), ids=lambda p: p.name)
def test_agents_need_jax_flax_and_optax_only(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert roots - AGENTS_NEED - set(sys.stdlib_module_names) == set()


def test_agents_know_neither_the_configuration_nor_other_rooms():
    ours = {
        room(name)
        for path in (PACKAGE / "agents").glob("*.py")
        for name in imported(path)
        if name.startswith("iql_jax.")
    }
    assert ours <= {"agents", "errors", "types"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("iql_jax", ("jax", "numpy", "gymnasium", "mujoco")),
        ("iql_jax.data", ("jax", "gymnasium", "mujoco", "h5py")),
        ("iql_jax.envs", ("jax", "gymnasium", "mujoco")),
        ("iql_jax.report", ("jax", "matplotlib", "wandb", "tensorboardX")),
    ],
)
def test_importing_a_room_imports_nothing_heavy(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
