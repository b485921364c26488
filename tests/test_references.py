"""Names that docstrings refer to, as in :mod:`moa.errors` or :class:`~moa.mixture.run.Run`, exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`(?:[^`<]*<)?~?([\w.]+)>?`")

NEED_EXTRAS = ("moa.inspect", "moa.batch.on_ray", "moa.batch.ray_files")
"""Modules that need an optional package."""


def _modules() -> list[str]:
    paths = (path.relative_to(SOURCE).with_suffix("") for path in SOURCE.glob("moa/**/*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__")


def _references(module: str) -> Iterator[tuple[str, str]]:
    """Every reference in a module's strings, with the name of the class that holds it, if any."""
    path = SOURCE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def visit(node: ast.AST, owner: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str):
                yield from ((name, owner) for name in ROLE.findall(child.value))
            yield from visit(child, child.name if isinstance(child, ast.ClassDef) else owner)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), "")


def _exists(name: str, module: str, owner: str) -> bool:
    """Whether a name resolves in its class, in its module, or as a path from the package."""
    scopes = [f"{module}.{owner}.{name}" if owner else "", f"{module}.{name}", name]
    return any(_resolves(scope.split(".")) for scope in scopes if scope.startswith("moa"))


def _resolves(parts: list[str]) -> bool:
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return _has(found, parts[length:])
    return False


def _has(found: object, attributes: list[str]) -> bool:
    for number, attribute in enumerate(attributes):
        if not hasattr(found, attribute):
            # Attributes that only __init__ sets are known from its source.
            last = number == len(attributes) - 1
            return last and inspect.isclass(found) and f"self.{attribute}" in inspect.getsource(found)
        found = getattr(found, attribute)
    return True


def test_every_reference_in_a_docstring_resolves() -> None:
    """A docstring that names a module, a class or a function names one that exists."""
    modules = [module for module in _modules() if module not in NEED_EXTRAS]
    found = [(module, owner, name) for module in modules for name, owner in _references(module)]
    assert len(found) > 100
    assert [each for each in found if not _exists(each[2], each[0], each[1])] == []
