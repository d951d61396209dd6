"""Alembic environment of pgembed's own schema: tables by revision, functions from files.

Whenever a run ends at the newest revision, every file of ``sql/`` is applied again in the same
transaction, so the functions in a database are those of the package that migrated it.
"""

from __future__ import annotations

from alembic import context

from pgembed import resources
from pgembed.schema import EXTENSION_SCHEMA, prepare_statements

SETTINGS = {
    "version_table": "alembic_version",
    "version_table_schema": "pgembed",
    "transaction_per_migration": False,
    "transactional_ddl": True,
    "target_metadata": None,
}


def at_head() -> bool:
    """Whether this run upgrades to the newest revision."""
    destination = context.get_revision_argument()
    return destination is not None and destination == context.get_head_revision()


def run_offline() -> None:
    context.configure(dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, **SETTINGS)
    emit = context.get_context().impl.static_output
    schema = context.config.attributes.get(EXTENSION_SCHEMA, "public")
    with context.begin_transaction():
        for statement in prepare_statements(schema):
            emit(f"{statement};")
        context.run_migrations()
        if at_head():
            for path in resources.sql_files():
                emit(path.read_text(encoding="utf-8"))


def run_online() -> None:
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, **SETTINGS)
    driver = connection.connection.driver_connection
    with context.begin_transaction():
        for statement in prepare_statements(context.config.attributes[EXTENSION_SCHEMA]):
            connection.exec_driver_sql(statement)
        context.run_migrations()
        if at_head():
            for path in resources.sql_files():
                driver.execute(path.read_bytes())


if context.is_offline_mode():
    run_offline()
else:
    run_online()
