"""What a Python script says, as far as that can be read: its imports, names and launching calls."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from portico.migrate.launchers import GUNICORN, LAUNCHERS, OTHERS, Launcher
from portico.migrate.model import Entry
from portico.migrate.pythonsource import Reader, dotted, imports_of, parse, source_of


class Call(NamedTuple):
    """A call that starts a server: its name, its node, and what it is."""

    name: str
    node: ast.Call
    launcher: Launcher | None
    title: str


class Script:
    """What a script says."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.tree = parse(text, path)
        self.imports = imports_of(self.tree)
        self.reader = Reader(path, self.imports)
        self.members = _members_of(self.tree)
        self.classes = {
            node.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ClassDef)
            and any(dotted(base, self.imports) in GUNICORN for base in node.bases)
        }
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    def entry(self, name: str, value: str, node: ast.AST, data: Any = None) -> Entry:
        """Make the entry of what stands at *node*."""
        return Entry(name, value, self.path, getattr(node, "lineno", 0), data)

    def find(self) -> list[Call]:
        """Find the calls that start a server, in their order."""
        found = []
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            name = dotted(node.func, self.imports)
            if name in LAUNCHERS:
                found.append(Call(name, node, LAUNCHERS[name], LAUNCHERS[name].title))
            elif name in OTHERS:
                found.append(Call(name, node, None, name))
            elif name in self.classes or name in GUNICORN:
                found.append(Call(name, node, None, "gunicorn"))
        return sorted(found, key=lambda call: (call.node.lineno, call.node.col_offset))

    def at_top(self, node: ast.AST) -> bool:
        """Whether loading the file as a module would come to *node*."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
                return False
            if isinstance(node, ast.If) and "__name__" in source_of(node.test):
                return False
        return True

    def statement(self, node: ast.AST) -> ast.AST:
        """Give the statement that an expression is part of."""
        while not isinstance(node, ast.stmt) and node in self.parents:
            node = self.parents[node]
        return node


def _members_of(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Give module and name of what is imported from modules, by the name that it has here."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }
