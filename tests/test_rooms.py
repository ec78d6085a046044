"""Structure of the package: imports between its rooms run one way, and no file is long."""

import ast

from scripts import ROOT

# Imports go left. The experiments' scripts themselves are outside, above all rooms.
ROOMS = ["base", "experiments", "kernels", "layers", "data", "config", "look", "tasks", "checkpoint", "run"]
FLAT = {"cpu.py"}  # a list of small functions


def imported_rooms(file):
    """Return the rooms that a file of the package imports from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("snn.") and name.split(".")[1] in ROOMS)


def test_imports_run_one_way():
    assert {path.name for path in (ROOT / "snn").iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)
    for file in (ROOT / "snn").glob("*/*.py"):
        own = ROOMS.index(file.parent.name)
        for room in imported_rooms(file):
            assert ROOMS.index(room) <= own, f"{file.name} of {file.parent.name} imports {room}"


def test_no_file_is_long():
    for file in (ROOT / "snn").rglob("*.py"):
        lines = len(file.read_text().splitlines())
        assert lines <= 350 or file.name in FLAT, f"{file.name} has {lines} lines"
