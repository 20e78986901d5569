"""Reads Python source without running it: what a name stands for, as far as that is written."""

from __future__ import annotations

import ast
import os
import posixpath
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portico.migrate.files import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Beyond these a value is somebody's experiment and no configuration.
_MOST_NUMBER = 10**18
_MOST_TEXT = 65_536

#: Characters of an expression that are shown.
_MOST_SHOWN = 100


class ComputedError(Exception):
    """A value that only running the file would give; says what it takes."""


def parse(text: str, path: str) -> ast.Module:
    """Parse a file's text.

    Raises:
        ConfigError: it is no Python 3.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an escape that means nothing
            return ast.parse(text.encode("utf-8", "surrogateescape"), path)
    except SyntaxError as error:
        raise refusal(path, error.lineno or 0, f"is no Python 3: {error.msg}") from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise refusal(path, 0, "cannot be parsed as Python: it is nested too deeply") from error


def source_of(node: ast.AST) -> str:
    """Write an expression on one line, cut where it is long."""
    try:
        text = " ".join(ast.unparse(node).split())
    except RecursionError:
        return "an expression"
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def imports_of(tree: ast.AST) -> dict[str, str]:
    """Give the full name of each imported one: ``serve`` is ``waitress.serve``."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def dotted(node: ast.AST, imports: dict[str, str]) -> str:
    """Give the full name of what an expression names; empty for what is no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([imports.get(node.id, node.id), *reversed(parts)])


def set_variable(node: ast.stmt, imports: dict[str, str]) -> tuple[ast.expr, ast.expr] | None:
    """Give name and value of the environment variable that a statement sets, if it does."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Subscript) and dotted(target.value, imports) == "os.environ":
            return target.slice, node.value
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        if dotted(call.func, imports) == "os.environ.setdefault" and len(call.args) == 2:
            return call.args[0], call.args[1]
    return None


@dataclass(slots=True)
class Reader:
    """Finds values, as far as they are written.

    Attributes:
        path: The file, for ``__file__``.
        imports: What imported names stand for.
        names: Names whose value is known.
        depends: Name -> what its value depended on, as `asked` and `is_local` have it.
        asked: Environment variables that values depended on, since it was emptied.
        is_local: Whether a value depended on this machine, since that was reset.
        used: Names that were looked up.
    """

    path: str
    imports: dict[str, str]
    names: dict[str, Any] = field(default_factory=dict)
    depends: dict[str, tuple[list[str], bool]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_local: bool = False
    used: set[str] = field(default_factory=set)

    def define(self, name: str, node: ast.AST) -> Any:
        """Give the value of an expression that *name* stands for from now on.

        Raises:
            ComputedError: it is not written there; the name stands for nothing then.
        """
        self.forget(name)
        self.asked, self.is_local = [], False
        value = self.value(node)
        self.asked = list(dict.fromkeys(self.asked))
        self.names[name] = value
        self.depends[name] = self.asked, self.is_local
        return value

    def forget(self, name: str) -> None:
        """Let *name* stand for nothing that is known."""
        self.names.pop(name, None)
        self.depends.pop(name, None)

    def value(self, node: ast.AST) -> Any:
        """Give the value of an expression.

        Raises:
            ComputedError: it is not written there.
        """
        try:
            found = self._value(node)
        except (TypeError, ArithmeticError, ValueError, KeyError, IndexError, RecursionError):
            raise ComputedError(source_of(node)) from None
        if isinstance(found, (int, float)) and not abs(found) <= _MOST_NUMBER:
            raise ComputedError(source_of(node))
        if isinstance(found, str) and len(found) > _MOST_TEXT:
            raise ComputedError(source_of(node))
        return found

    def _value(self, node: ast.AST) -> Any:  # noqa: PLR0911 - one for each kind of expression
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self.value(one) for one in node.elts]
        if isinstance(node, ast.Dict) and None not in node.keys:
            return {
                self.value(key): self.value(value)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            }
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.value(node.operand)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            return next(filter(None, map(self.value, node.values)), None)
        if isinstance(node, ast.JoinedStr):
            return "".join(self._pieces(node))
        if isinstance(node, ast.Call):
            return self._call(node)
        raise ComputedError(source_of(node))

    def _name(self, node: ast.Name) -> Any:
        if node.id == "__file__":
            return os.path.abspath(self.path)  # noqa: PTH100 - what Python says
        if node.id in self.names:
            self.used.add(node.id)
            asked, is_local = self.depends.get(node.id, ([], False))
            self.asked += asked
            self.is_local = self.is_local or is_local
            return self.names[node.id]
        raise ComputedError(source_of(node))

    def _binary(self, node: ast.BinOp) -> Any:
        a, b = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Add):
            return a + b
        if not all(isinstance(one, (int, float)) for one in (a, b)):
            if isinstance(node.op, ast.Div):  # pathlib's, or nothing that a setting takes
                raise ComputedError(source_of(node))
            if isinstance(node.op, ast.Mod) and isinstance(a, str) and len(a) < _MOST_SHOWN:
                return self._formatted(node, a, b)
            raise ComputedError(source_of(node))
        for kind, work in _ARITHMETIC.items():
            if isinstance(node.op, kind):
                return work(a, b)
        raise ComputedError(source_of(node))

    def _formatted(self, node: ast.BinOp, form: str, values: Any) -> str:
        """Format by ``%s`` and ``%d`` alone: a width could be any number."""
        values = values if isinstance(values, list) else [values]
        parts = form.replace("%d", "%s").split("%s")
        if "%" in "".join(parts) or len(parts) != len(values) + 1:
            raise ComputedError(source_of(node))
        return parts[0] + "".join(
            f"{value}{part}" for value, part in zip(values, parts[1:], strict=True)
        )

    def _pieces(self, node: ast.JoinedStr) -> Iterator[str]:
        for piece in node.values:
            if isinstance(piece, ast.FormattedValue):
                if piece.format_spec is not None or piece.conversion != -1:
                    raise ComputedError(source_of(node))
                yield str(self.value(piece.value))
            else:
                yield str(self.value(piece))

    def _call(self, node: ast.Call) -> Any:
        name = dotted(node.func, self.imports)
        if node.keywords and name not in _ENVIRONMENT:
            raise ComputedError(source_of(node))
        if name in _ENVIRONMENT:
            return self._variable(node)
        if name in {"multiprocessing.cpu_count", "os.cpu_count"} and not node.args:
            self.is_local = True
            return os.cpu_count() or 1
        work = _FUNCTIONS.get(name)
        if work is None:
            raise ComputedError(source_of(node))
        return work(*map(self.value, node.args))

    def _variable(self, node: ast.Call) -> Any:
        """Give the default of an environment variable that is asked for."""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        variable = self.value(given[0])
        if len(given) != 2 or not isinstance(variable, str):
            raise ComputedError(f"the environment variable {variable}")
        default = self.value(given[1])
        self.asked.append(variable)
        return default


_ENVIRONMENT = {"os.environ.get", "os.getenv", "environ.get", "getenv"}

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "max": max,
    "min": min,
    "os.path.join": posixpath.join,
    "os.path.dirname": posixpath.dirname,
    "os.path.abspath": posixpath.abspath,
    "os.path.realpath": posixpath.abspath,
}
