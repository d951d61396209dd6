"""What PostgreSQL's own catalog says about its functions, types and settings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from psycopg.rows import class_row

from pgembed.database import Connection
from pgembed.demo.wording import cleaned, masked, on_one_line, shortened

PostgresKind = Literal["aggregate", "function", "procedure", "setting", "type", "window"]

FUNCTIONS = """
select
  p.oid::bigint as id,
  n.nspname as schema,
  p.proname as name,
  case p.prokind
    when 'a' then 'aggregate' when 'p' then 'procedure' when 'w' then 'window' else 'function'
  end as kind,
  array(
    select pg_catalog.format_type(u.type, null)
    from pg_catalog.unnest(p.proargtypes) with ordinality as u (type, position)
    order by u.position
  ) as argument_types,
  pg_catalog.pg_get_function_arguments(p.oid) as arguments,
  pg_catalog.pg_get_function_result(p.oid) as result_type,
  p.proisstrict as strict,
  case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end
    as volatility,
  p.proretset as returns_set,
  null as category,
  d.description,
  null as details
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
join pg_catalog.pg_description as d
  on d.objoid = p.oid and d.classoid = 'pg_catalog.pg_proc'::regclass and d.objsubid = 0
where n.nspname = 'pg_catalog'
  and p.oid < 16384
  and d.description !~ '^implementation of .* operator$'
  and not exists (
    select
    from pg_catalog.pg_type as t
    where t.oid = any (p.proargtypes::oid[] || p.prorettype)
      and (t.typname in ('internal', 'cstring', 'trigger', 'event_trigger')
           or t.typname like '%\\_handler')
  )
"""
"""The functions that ship with the server and that a user can call. Left out are those which only
the server calls: with arguments of type ``internal`` or ``cstring``, and the ones behind operators,
which PostgreSQL's own documentation tells us to reach through the operator."""

TYPES = """
select
  t.oid::bigint as id,
  n.nspname as schema,
  t.typname as name,
  'type' as kind,
  array_remove(array[pg_catalog.format_type(r.rngsubtype, null)], null) as argument_types,
  null as arguments,
  pg_catalog.format_type(t.oid, null) as result_type,
  null::boolean as strict,
  null as volatility,
  null::boolean as returns_set,
  case t.typcategory
    when 'A' then 'array' when 'B' then 'boolean' when 'D' then 'date/time'
    when 'G' then 'geometric' when 'I' then 'network address'
    when 'N' then 'numeric' when 'R' then 'range' when 'S' then 'string'
    when 'T' then 'timespan' when 'V' then 'bit string' else 'other'
  end as category,
  d.description,
  case when t.typlen > 0 then t.typlen || ' bytes' else 'variable length' end as details
from pg_catalog.pg_type as t
join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
join pg_catalog.pg_description as d
  on d.objoid = t.oid and d.classoid = 'pg_catalog.pg_type'::regclass and d.objsubid = 0
left join pg_catalog.pg_range as r on t.oid in (r.rngtypid, r.rngmultitypid)
where n.nspname = 'pg_catalog' and t.oid < 16384 and t.typtype <> 'p' and t.typcategory <> 'Z'
"""
"""The data types that ship with the server and that a column can have."""

SETTINGS = """
select
  0::bigint as id,
  'pg_catalog' as schema,
  s.name,
  'setting' as kind,
  array[]::text[] as argument_types,
  null as arguments,
  s.vartype as result_type,
  null::boolean as strict,
  null as volatility,
  null::boolean as returns_set,
  s.category,
  s.short_desc as description,
  concat_ws(
    ' ', s.extra_desc, 'Unit: ' || s.unit || '.',
    'Values: ' || pg_catalog.array_to_string(s.enumvals, ', ') || '.'
  ) as details
from pg_catalog.pg_settings as s
where s.name not like '%.%'
"""
"""The server's own settings: a name with a dot belongs to an extension that is loaded."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """One row of the catalog, as the three queries above return it."""

    id: int
    schema: str
    name: str
    kind: PostgresKind
    argument_types: list[str]
    arguments: str | None
    result_type: str | None
    strict: bool | None
    volatility: str | None
    returns_set: bool | None
    category: str | None
    description: str
    details: str | None


@dataclass(frozen=True, slots=True)
class PostgresEntry:
    """A function, type or setting of the server with its description."""

    id: int
    """The object's oid, the same on every server; a setting's comes from its name."""
    schema: str
    name: str
    kind: PostgresKind
    argument_types: tuple[str, ...]
    """Of a function its input arguments, of a range type its element, of a setting none."""
    argument_count: int
    result_type: str | None
    """Of a function what it returns, of a type its SQL name, of a setting its value's type."""
    strict: bool | None
    """Whether a null argument makes the result null; None unless a function."""
    volatility: str | None
    returns_set: bool | None
    category: str | None
    """Of a type or setting; None for a function."""
    description: str
    summary: str
    """The description without the entry's own name."""
    content: str
    """The other facts in words: what is embedded."""


def postgres_entries(connection: Connection) -> list[PostgresEntry]:
    """Reads functions, types and settings from the catalog of the connected server, by id.

    Only what ships with the server is read, so two servers of one version give the same entries.
    """
    with connection.cursor(row_factory=class_row(_Facts)) as cursor:
        facts = [row for query in (FUNCTIONS, TYPES, SETTINGS) for row in cursor.execute(query)]
    return sorted((_entry(row) for row in facts), key=lambda entry: entry.id)


def setting_id(name: str) -> int:
    """A number for a setting, which has no oid: above every oid, and made from the name alone."""
    return 2**32 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def _entry(facts: _Facts) -> PostgresEntry:
    """The catalog's row with what is asked and what is searched."""
    description = on_one_line(cleaned(facts.description))
    return PostgresEntry(
        id=setting_id(facts.name) if facts.kind == "setting" else facts.id,
        schema=facts.schema,
        name=facts.name,
        kind=facts.kind,
        argument_types=tuple(facts.argument_types),
        argument_count=len(facts.argument_types),
        result_type=facts.result_type,
        strict=facts.strict,
        volatility=facts.volatility,
        returns_set=facts.returns_set,
        category=facts.category,
        description=description,
        summary=masked(description, facts.name, ignore_case=True),
        content=shortened(on_one_line(cleaned(_content(facts)))),
    )


def _content(facts: _Facts) -> str:
    """The catalog's facts as a short text, the name split into its parts."""
    title = f"{facts.kind} {' '.join(part for part in facts.name.split('_') if part)}"
    if facts.kind == "setting":
        return f"{title}: {facts.category}. {facts.result_type}. {facts.details}"
    if facts.kind == "type":
        elements = "".join(f" of {element}" for element in facts.argument_types)
        return f"{title}: {facts.result_type}, {facts.category}{elements}, {facts.details}"
    return f"{title} ({facts.arguments}) returns {facts.result_type}, {facts.volatility}"
