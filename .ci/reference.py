"""Builds the API reference from the docstrings.

    python -W error .ci/reference.py FOLDER [MODULE ...]

Fails when a public name has no docstring. That no docstring names an argument that does not exist
is for ruff (DOC102), that all arguments are described too (D417).
"""

import ast
import functools
import importlib
import os
import sys
from pathlib import Path
from typing import ForwardRef

os.environ["PDOC_ALLOW_EXEC"] = "1"  # JAX asks for the processor when it is imported

import pdoc
from pdoc import doc, doc_pyi, doc_types, extract, render

_OWN, _ITERATE = doc.Module._var_docstrings.func, extract.iter_modules2
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


def _submodules(module):
    """Not those that bear a function's name, which stands on the page of their package."""
    found = _ITERATE(module).items()
    return {name: one for name, one in found if not callable(getattr(module, name, None))}


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


def main(folder: Path, *modules: str) -> int:
    """Writes the pages, then says what is missing."""
    doc.safe_eval_type = doc_types.safe_eval_type = _as_written
    extract.iter_modules2 = _submodules
    docstrings = functools.cached_property(_with_constants)
    docstrings.__set_name__(doc.Module, "_var_docstrings")
    doc.Module._var_docstrings = docstrings
    # stubs only say what a lazy package hands on
    doc_pyi.include_typeinfo_from_stub_files = lambda module: None
    render.configure(docformat="google")
    pdoc.pdoc(*(modules or MODULES), output_directory=folder)
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
