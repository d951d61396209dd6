"""What the documentation of the running Python's standard library says, entry by entry."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal

from pgembed.demo.python_modules import MODULES
from pgembed.demo.wording import (
    cleaned,
    masked,
    normalised,
    on_one_line,
    shortened,
    split_first_sentence,
    words,
)

PythonKind = Literal["class", "function", "method"]

FEWEST_WORDS = 4
"""A docstring with fewer words says no more than its entry's name."""

FEWEST_CONTENT_WORDS = 8
"""What follows the first sentence must say enough to be found by."""

_DEPRECATED = re.compile(
    r"^deprecated\b|\b(?:is|are|been|now) deprecated\b|\bdeprecated (?:since|alias|in|as of)\b|"
    r"\.\. deprecated::",
    re.IGNORECASE | re.MULTILINE,
)
_CALL = re.compile(
    r"\s*(?:\w+\.)*(?P<name>\w+)(?P<parameters>\((?:[^()]|\([^()]*\))*\))"
    r"(?P<result>\s*-+>[^\n]*?)?"
    r"(?:\s+--\s+|:\s+|[ \t]*(?:\n[ \t]+[^\n]+)*(?:\n|\Z))"
)
_DEFAULT = re.compile(r"=[^,()]+")
_SHOWN_DEFAULTS = (type(None), bool, int)
"""A text may be a path of this machine, and another object's repr anything."""


@dataclass(frozen=True, slots=True)
class PythonEntry:
    """A class, function or method with a docstring of its own."""

    id: int
    """Counted from 1 in the order of module and name."""
    module: str
    name: str
    """Qualified within the module: ``ZipFile.open``."""
    kind: PythonKind
    signature: str
    """Parameters in parentheses, ``''`` where neither the object nor its docstring tells."""
    python: str
    """Version of the Python whose documentation this is: ``3.13``."""
    deprecated: bool
    doc: str
    """The whole docstring."""
    summary: str
    """The first sentence without the entry's own name."""
    content: str
    """Module, class, parameters and what follows the first sentence, without the entry's own name:
    what is embedded. At most ``LONGEST_CONTENT`` characters."""


@dataclass(frozen=True, slots=True)
class _Documented:
    """A documented object under the name that it goes by."""

    module: str
    name: str
    kind: PythonKind
    thing: object
    doc: str


def python_entries(limit: int | None = None) -> list[PythonEntry]:
    """Reads the documentation of every module of ``MODULES`` that this Python has.

    An object that several modules export is an entry of the module that defines it, or else of
    the first that lists it; a docstring that several objects share is one entry. An entry whose
    docstring is one sentence has no content of its own and is left out.

    Args:
        limit: At most this many entries, spread evenly over all; None for all of them.
    """
    with _silent():
        found = [entry for documented in _distinct(_modules()) for entry in _entry(documented)]
    found.sort(key=lambda entry: (entry.module, entry.name))
    numbered = [replace(entry, id=number) for number, entry in enumerate(found, start=1)]
    if limit is None or limit >= len(numbered):
        return numbered
    return [numbered[place * len(numbered) // limit] for place in range(limit)]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Neither warnings nor output of the modules that are imported and looked at."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _modules() -> dict[str, ModuleType]:
    """Those of ``MODULES`` that this Python has and its build can import."""
    modules = {}
    for name in MODULES:
        with contextlib.suppress(Exception):
            modules[name] = importlib.import_module(name)
    return modules


def _distinct(modules: dict[str, ModuleType]) -> Iterator[_Documented]:
    """Each object and each docstring once: functions and classes first, then methods."""
    seen: set[int | str] = set()
    members = list(_members(modules))
    methods = [
        method for member in members if member.kind == "class" for method in _methods(member)
    ]
    for documented in [*members, *methods]:
        text = normalised(documented.doc)
        if id(documented.thing) not in seen and text not in seen:
            yield documented
        seen.update((id(documented.thing), text))


def _members(modules: dict[str, ModuleType]) -> Iterator[_Documented]:
    """The public functions and classes of all modules, at home first and then as exported."""
    for at_home in (True, False):
        for module_name, module in modules.items():
            listed = set(getattr(module, "__all__", ()))
            for name, thing in sorted(vars(module).items()):
                home = getattr(thing, "__module__", None)
                exported = name in listed if listed else str(home).startswith("_")
                belongs = home == module_name if at_home else exported and home not in modules
                if belongs and not name.startswith("_"):
                    yield from _documented(module_name, name, thing)


def _methods(owner: _Documented) -> Iterator[_Documented]:
    """The public methods that a class defines itself."""
    for name, attribute in sorted(vars(owner.thing).items()):
        if not name.startswith("_"):
            thing = getattr(attribute, "__func__", attribute)
            if inspect.isroutine(thing):
                yield from _documented(owner.module, f"{owner.name}.{name}", thing)


def _documented(module: str, name: str, thing: object) -> Iterator[_Documented]:
    """The object, if it is a class or routine with a docstring of its own."""
    kind: PythonKind
    if inspect.isclass(thing):
        kind, doc = "class", vars(thing).get("__doc__")
    elif inspect.isroutine(thing):
        kind, doc = "method" if "." in name else "function", getattr(thing, "__doc__", None)
    else:
        return
    if isinstance(doc, str) and len(words(doc)) >= FEWEST_WORDS:
        yield _Documented(module, name, kind, thing, cleaned(inspect.cleandoc(doc)))


def _entry(documented: _Documented) -> Iterator[PythonEntry]:
    """The documented object as a row that has no number yet, if it says enough."""
    doc, (owner, _, own_name) = documented.doc, documented.name.rpartition(".")
    written, text = _split_signature(doc, own_name)
    first, rest = split_first_sentence(text)
    if len(words(rest)) < FEWEST_CONTENT_WORDS:
        return
    signature = _signature(documented.thing) or written
    heading = f"{documented.module} {owner}{_DEFAULT.sub('', signature)}: "
    yield PythonEntry(
        id=0,
        module=documented.module,
        name=documented.name,
        kind=documented.kind,
        signature=signature,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        deprecated=hasattr(documented.thing, "__deprecated__") or bool(_DEPRECATED.search(doc)),
        doc=doc,
        summary=masked(first, own_name, ignore_case=False),
        content=shortened(masked(heading + on_one_line(rest), own_name, ignore_case=True)),
    )


def _split_signature(doc: str, name: str) -> tuple[str, str]:
    """The call that a docstring of C code begins with, as "(a[, b])", and the text after it.

    A line is such a call when it calls the name itself, or when an arrow says what it returns.
    """
    written, end = "", 0
    while found := _CALL.match(doc, end):
        if found["name"] != name and not found["result"]:
            break
        written, end = written or found["parameters"], found.end()
    return on_one_line(written), doc[end:].strip()


def _signature(thing: object) -> str:
    """The parameters with those defaults that read the same on every machine."""
    try:
        signature = inspect.signature(thing)  # type: ignore[arg-type]
        plain = [
            parameter.replace(
                annotation=inspect.Parameter.empty,
                default=parameter.default
                if parameter.default is inspect.Parameter.empty
                or type(parameter.default) in _SHOWN_DEFAULTS
                else ...,
            )
            for parameter in signature.parameters.values()
        ]
        text = signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
        return cleaned(str(text)).replace("Ellipsis", "...")
    except Exception:  # a signature is a nicety: foreign code may raise anything here
        return ""
