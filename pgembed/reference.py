"""Write the reference pages from what they describe: SQL files, commands and docstrings.

``python -m pgembed.reference docs`` writes them into ``docs/reference``.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, is_typeddict

import typer
from typer.cli import get_docs_for_click

import pgembed
from pgembed import resources
from pgembed.cli.app import app
from pgembed.database import ERRORS

WIDEST = 96
"""Characters of a signature that stays on one line."""

FROM_MODULES = (
    "bootstrap.holm",
    "diagnosis.diagnose",
    "diagnosis.Check",
    "encoders.bank.AdapterBank",
    "evaluation.evaluate",
    "evaluation.evaluate_all",
    "evaluation.Evaluation",
    "evaluation.SystemScores",
    "expert_folders.export_expert",
    "expert_folders.import_expert",
    "loopback.set_up_loopback",
    "loopback.Loopback",
    "merging.merge_experts",
    "mteb.DatabaseSearch",
    "recommending.recommend_experts",
    "router_building.add_to_router",
    "router_settings.RouterSettings",
    "sqlalchemy.encode",
    "sqlalchemy.search",
)
"""Public names that are imported from a module of pgembed."""

GENERATED = "<!-- Written by `make docs`; change the source instead. -->\n"

SQL_HEAD = """# SQL reference

Functions and tables of schema `pgembed`. The same texts are in the database: `\\df+ pgembed.*` and
`\\dt+ pgembed.*` in psql. Functions that are not listed here are helpers and may change.
"""

PYTHON_HEAD = """# Python reference

Names without a dot are imported from `pgembed`, the others from its modules. `Connection` is
`psycopg.Connection`; every function takes the caller's connection and commits nothing, unless its
text says so. `Vector` is a float32 numpy array of shape (dimensions,), `Vectors` one of shape
(n, dimensions). `Mode` is `"soft"`, `"hard"`, `"base"` or the name of an expert.
"""

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_SQL_TEXT = r"'((?:[^']|'')*)'"


class Column(NamedTuple):
    """A line of a ``create table``."""

    name: str
    definition: str
    comment: str


def pages() -> dict[str, str]:
    """The text of each reference page by its file name."""
    return {"sql.md": sql_page(), "cli.md": cli_page(), "python.md": python_page()}


def write(folder: Path) -> None:
    """Write the pages into ``folder/reference``."""
    for name, text in pages().items():
        (folder / "reference" / name).write_text(text, encoding="utf-8")


def sql_functions() -> dict[str, list[tuple[str, str]]]:
    """Signatures and comments of every public SQL function and its overloads, by name."""
    files = [path for path in resources.sql_files() if path.parent.name == "public"]
    return {path.stem: _functions(path.read_text(encoding="utf-8")) for path in files}


def sql_tables() -> dict[str, tuple[str, list[Column]]]:
    """Comment and columns of every table that the migrations create, by name."""
    folder = resources.migrations() / "versions"
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    comments = dict(re.findall(rf"comment on (?:table|column) (\S+) is\s+{_SQL_TEXT};", text))
    made = re.findall(
        r"create (?:unlogged )?table (pgembed\.\w+) \(\n(.*?)\n\)(?: with \(.*?\))?;",
        text,
        re.DOTALL,
    )
    return {
        name: (_unquoted(comments.get(name, "")), list(_columns(name, body, comments)))
        for name, body in sorted(made)
    }


def sql_page() -> str:
    """The page of SQL functions, tables and errors."""
    functions, tables = sql_functions(), sql_tables()
    return _page(
        SQL_HEAD,
        "## Functions\n",
        "\n".join(f"- [{name}](#pgembed{name})" for name in functions) + "\n",
        *(
            f"### pgembed.{name}\n\n"
            + "\n".join(f"```sql\n{signature}\n```\n\n{comment}\n" for signature, comment in made)
            for name, made in functions.items()
        ),
        "## Tables\n",
        *(_table_section(name, *table) for name, table in tables.items()),
        "## Errors\n",
        _table(
            ("SQLSTATE", "raised when", "in Python"),
            (
                (code, error.__doc__, error.__name__)
                for code, error in ERRORS.items()
                if code[:3] == "PGE"
            ),
        ),
    )


def cli_page() -> str:
    """The page of commands, by Typer's own generator."""
    command = typer.main.get_command(app)
    _name_in_full(command)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="pgembed")
    return _page("# Command line reference\n", text.partition("\n")[2])


def python_page() -> str:
    """The page of public Python names."""
    names = (*pgembed.__all__, *FROM_MODULES)
    listed = "\n".join(f"- [{name}](#{name.replace('.', '').lower()})" for name in names)
    return _page(PYTHON_HEAD, listed + "\n", *map(_python_section, names))


def _page(*parts: str) -> str:
    text = "\n".join((GENERATED, *parts))
    lines = (line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _functions(text: str) -> list[tuple[str, str]]:
    signatures = re.findall(
        r"create or replace (?:function|procedure) (.*?)\n(?:language |--)", text, re.DOTALL
    )
    comments = re.findall(
        rf"comment on (?:function|procedure) .*? is\s+{_SQL_TEXT};", text, re.DOTALL
    )
    return [
        (signature, _unquoted(comment))
        for signature, comment in zip(signatures, comments, strict=True)
    ]


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def _columns(table: str, body: str, comments: dict[str, str]) -> Iterator[Column]:
    for line in body.splitlines():
        name, _, definition = line.strip().rstrip(",").partition(" ")
        # Constraints on the whole table begin with a keyword instead of a column.
        if name not in ("primary", "foreign", "unique", "check"):
            yield Column(name, definition, _unquoted(comments.get(f"{table}.{name}", "")))


def _table_section(name: str, comment: str, columns: list[Column]) -> str:
    rows = ((f"`{c.name}`", f"`{c.definition}`", c.comment) for c in columns)
    return f"### {name}\n\n{comment}\n\n{_table(('column', 'definition', 'meaning'), rows)}"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str | None]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ([(cell or "").replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _name_in_full(command: Any) -> None:
    """Give each command its first sentence as short help, which Typer would cut at 45 letters."""
    for each in getattr(command, "commands", {}).values():
        each.short_help = " ".join((each.help or "").split("\n\n")[0].split())
        _name_in_full(each)


def _python_section(name: str) -> str:
    module, _, attribute = f"pgembed.{name}".rpartition(".")
    thing = getattr(import_module(module), attribute)
    parts = [f"## {name}\n", _code(attribute, thing), _markdown(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing):
        parts += [_fields(thing), *_methods(thing)]
    return "\n".join(parts)


def _methods(owner: type) -> Iterator[str]:
    """The public methods that a class defines itself."""
    for name, attribute in vars(owner).items():
        if not name.startswith("_") and inspect.isfunction(attribute):
            text = _markdown(inspect.getdoc(attribute) or "")
            yield f"### {owner.__name__}.{name}\n\n{_code(name, attribute)}\n{text}"


def _code(name: str, thing: Callable[..., object]) -> str:
    """A signature as Python shows it, an argument a line when it is long."""
    if is_typeddict(thing):
        options = (f"    {key}: {_written(kind)}" for key, kind in thing.__annotations__.items())
        return "\n".join(("```python", f"class {name}(TypedDict):", *options, "```\n"))
    signature = inspect.signature(thing)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    written = [_plain(str(parameter)) for parameter in parameters]
    first_keyword = next((n for n, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if first_keyword is not None:
        written.insert(first_keyword, "*")
    returns = signature.return_annotation
    end = "" if inspect.isclass(thing) or returns is signature.empty else f" -> {_plain(returns)}"
    line = f"{name}({', '.join(written)}){end}"
    if len(line) > WIDEST:
        line = "\n".join((f"{name}(", *(f"    {each}," for each in written), f"){end}"))
    return f"```python\n{line}\n```\n"


def _written(annotation: object) -> str:
    """An annotation of a TypedDict, which keeps it as a reference to resolve later."""
    return str(getattr(annotation, "__forward_arg__", annotation))


def _plain(annotation: object) -> str:
    """Annotations are strings in our modules, and would be shown in quotes."""
    return re.sub(r"(: |^)'([^']*)'", r"\1\2", str(annotation)).replace("<factory>", "...")


def _fields(owner: type) -> str:
    """The fields of a dataclass or TypedDict that say more than their name."""
    if not is_dataclass(owner) and not is_typeddict(owner):
        return ""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    rows = [
        (f"`{field.target.id}`", " ".join(said.value.value.split()))
        for field, said in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
        and isinstance(said.value.value, str)
    ]
    return _table(("field", "meaning"), rows) if rows else ""


def _markdown(text: str) -> str:
    """A docstring in Google style as Markdown: its sections become lists."""
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text.replace("``", "`").replace("::\n", ":\n"))
    output, section = [], ""
    for line in text.splitlines():
        heading = _SECTION.fullmatch(line)
        if heading:
            section = heading.group(1)
            output += [f"**{section}**", ""]
        elif section and line.startswith("    "):
            is_item = section not in ("Returns", "Yields") and line[4] != " "
            output.append(f"- {line[4:]}" if is_item else line[4:].replace("    ", "  ", 1))
        else:
            section = "" if line else section
            output.append(line)
    return "\n".join(output) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
