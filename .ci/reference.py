"""Builds the API reference from the docstrings.

    python -W error .ci/reference.py FOLDER [MODULE ...]

Fails when a public name has no docstring. That no docstring names an argument that does not exist
is for ruff (DOC102), that all arguments are described too (D417).
"""

import ast
import functools
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import ForwardRef

os.environ["PDOC_ALLOW_EXEC"] = "1"  # JAX asks for the processor when it is imported

import pdoc
from pdoc import doc, doc_pyi, doc_types, render

_OWN, _SUBMODULES = doc.Module._var_docstrings.func, doc.Module.submodules.func
MODULES = ("bfjax", "bfjax.types", "bfjax.storage", "bfjax.cli")  # what these hand on, too


class _Written(str):
    """An annotation as the source has it, shapes included."""

    __slots__ = ()
    __repr__ = str.__str__


def _as_written(annotation, *_):
    """In place of pdoc's evaluation, which finds no names for the fields of a NamedTuple."""
    if isinstance(annotation, ForwardRef):
        return _Written(annotation.__forward_arg__)
    return _Written(annotation) if isinstance(annotation, str) else annotation


def _handed_on(module):
    """Where a package has its names from: its `__init__`, or the stub of a lazy one, says so."""
    file = Path(module.source_file)
    stub = file.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else file).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = f"{module.fullname}.{node.module}" if node.level else node.module
            yield from ((alias.asname or alias.name, whole, alias.name) for alias in node.names)


def _with_constants(self):
    """The docstrings of a module's variables, and of those that it hands on from others."""
    found = dict(_OWN(self))
    if self.source_file and Path(self.source_file).name == "__init__.py":
        for name, where, original in _handed_on(self):
            if name not in found and where.startswith("bfjax."):
                said = doc.Module(importlib.import_module(where))._var_docstrings
                found |= {name: said[original]} if original in said else {}
    return found


def _true_submodules(self):
    """Those that a package hands on as modules, and not those that bear a function's name."""
    return [one for one in _SUBMODULES(self) if inspect.ismodule(getattr(self.obj, one.name))]


def _without_docstring(module):
    """Public names of a module, of its classes too, that nothing is said of."""
    for name, member in module.members.items():
        whole = f"{module.fullname}.{name}"
        if member.kind == "module" or name.startswith("_"):
            continue
        if not member.docstring:
            yield whole
        if member.kind == "class":
            said = "".join(base.__doc__ or "" for base in member.obj.__mro__)
            for inner in member.own_members:
                # a field is described among the attributes of its class
                known = inner.docstring or inner.name == "__init__" or f"{inner.name}:" in said
                if not inner.name.startswith("_") and not known:
                    yield f"{whole}.{inner.name}"


def _namesakes():
    """Modules that bear a function's name, which stands on the page of their package."""
    for file in Path(importlib.import_module("bfjax").__file__).parent.glob("*/*.py"):
        package, name = f"bfjax.{file.parent.name}", file.stem
        handed_on = getattr(importlib.import_module(package), name, None)
        if handed_on is not None and not inspect.ismodule(handed_on):
            yield f"!{package}.{name}"


def main(folder: Path, *modules: str) -> int:
    """Writes the pages, then says what is missing."""
    doc.safe_eval_type = doc_types.safe_eval_type = _as_written
    for name, function in (("_var_docstrings", _with_constants), ("submodules", _true_submodules)):
        attribute = functools.cached_property(function)
        attribute.__set_name__(doc.Module, name)
        setattr(doc.Module, name, attribute)
    # stubs only say what a lazy package hands on
    doc_pyi.include_typeinfo_from_stub_files = lambda module: None
    render.configure(docformat="google")
    pdoc.pdoc(*(modules or [*MODULES, *_namesakes()]), output_directory=folder)
    pages = [page.relative_to(folder).with_suffix("") for page in folder.rglob("*.html")]
    names = [".".join(page.parts) for page in pages if page.parts[-1] != "index"]
    described = [doc.Module(importlib.import_module(name)) for name in names]
    bare = sorted({name for module in described for name in _without_docstring(module)})
    for name in bare:
        print(f"{name} has no docstring")
    print(f"{len(names)} pages in {folder}")
    return int(bool(bare))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
