"""The package as it is imported, and as it is built and installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import pgembed
from pgembed import resources
from tests.conftest import with_database

ROOT = Path(__file__).parent.parent

HEAVY = ("numpy", "onnxruntime", "tokenizers", "psycopg", "sqlalchemy", "alembic", "typer", "rich")

IMPORT = "import sys, pgembed; print(*[name for name in sys.argv[1:] if name in sys.modules])"

WHERE = "from pgembed import resources; print(resources.__file__, len(resources.sql_files()))"


def python(code: str, *arguments: str, path: Path | None = None) -> str:
    """What a fresh interpreter prints."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=path,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the sdist, built offline from a copy of sources that have been used."""
    copy = tmp_path_factory.mktemp("build") / "sources"
    ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", ".demo", "dist")
    shutil.copytree(ROOT, copy, ignore=ignored)
    for folder in ("pgembed", "migrations/versions"):
        (copy / folder / "__pycache__").mkdir(exist_ok=True)
        (copy / folder / "__pycache__" / "used.pyc").touch()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build"], cwd=copy, check=True, capture_output=True
    )
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as pip would."""
    folder = tmp_path_factory.mktemp("installed")
    wheel.extractall(folder)
    return folder


# Importing.


def test_importing_loads_nothing_heavy() -> None:
    """Neither numpy nor a driver nor a model runtime, until something needs it."""
    assert python(IMPORT, *HEAVY) == ""


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("connect", ("onnxruntime", "tokenizers", "sqlalchemy", "alembic")),
        ("Hit", ("onnxruntime", "tokenizers", "psycopg", "sqlalchemy", "alembic")),
        ("PgembedError", ("numpy", "onnxruntime", "psycopg", "sqlalchemy", "alembic")),
        ("migrate", ("onnxruntime", "tokenizers", "sqlalchemy", "alembic")),
        ("search", ("onnxruntime", "tokenizers", "sqlalchemy", "alembic", "typer", "rich")),
    ],
)
def test_a_name_loads_only_what_it_needs(name: str, spared: tuple[str, ...]) -> None:
    """The model runtime comes with the first model, Alembic with the first migration."""
    assert python(IMPORT.replace("; ", f"; pgembed.{name}; ", 1), *spared) == ""


@pytest.mark.parametrize("name", pgembed.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """And says what it does."""
    value = getattr(pgembed, name)
    assert value.__doc__
    assert value.__module__.startswith("pgembed.")
    assert name in dir(pgembed)


def test_names_are_listed_once_and_sorted_by_kind() -> None:
    """``__all__`` is the table of contents."""
    assert len(set(pgembed.__all__)) == len(pgembed.__all__)
    assert pgembed.__all__ == sorted(pgembed.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for every module."""
    with pytest.raises(AttributeError, match="'pgembed' has no attribute 'nope'"):
        pgembed.nope  # noqa: B018
    assert not hasattr(pgembed, "nope")


def test_a_star_import_works() -> None:
    """All names, each its own object."""
    code = "from pgembed import *; import pgembed; print(search is pgembed.search, sync.__name__)"
    assert python(code) == "True sync"


# Building.


def test_the_wheel_holds_the_package_and_what_it_needs_at_run_time(
    wheel: zipfile.ZipFile,
) -> None:
    """Modules, type marker, migrations and every SQL file; no tests and no caches."""
    names = set(wheel.namelist())
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("pgembed/**/*.py")}
    assert names >= files
    assert "pgembed/py.typed" in names
    migrations = [*ROOT.glob("migrations/*.py"), *ROOT.glob("migrations/versions/*.py")]
    assert names >= {f"pgembed/_{path.relative_to(ROOT)}" for path in migrations}
    assert "pgembed/_migrations/script.py.mako" in names
    assert names >= {f"pgembed/_{path.relative_to(ROOT)}" for path in ROOT.glob("sql/*/*.sql")}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    """Name, version, licences and the command."""
    folder = f"pgembed_router-{pgembed.__version__}.dist-info"
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert f"Name: pgembed-router\nVersion: {pgembed.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert "pgembed = pgembed.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    for licence in ("LICENSE", "THIRD_PARTY_NOTICES.md"):
        assert wheel.read(f"{folder}/licenses/{licence}") == (ROOT / licence).read_bytes()


def test_the_sdist_can_be_tested_and_built_again(built: Path) -> None:
    """It has sources, SQL, migrations, tests and documentation."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["pgembed/py.typed", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"]
    wanted += ["tests/conftest.py", "tests/encoders/tiny.py", "constraints.txt", "Makefile"]
    wanted += [str(path.relative_to(ROOT)) for path in ROOT.glob("sql/*/*.sql")]
    wanted += [str(path.relative_to(ROOT)) for path in ROOT.glob("migrations/**/*.py")]
    assert names >= set(wanted)
    assert not [name for name in names if "__pycache__" in name or ".venv" in name]


# Installed.


def test_an_installed_wheel_finds_its_own_sql(installed: Path) -> None:
    """Beside itself, wherever it lies, not in a checkout."""
    where, count = python(WHERE, path=installed).rsplit(" ", 1)
    assert Path(where).is_relative_to(installed)
    assert int(count) == len(resources.sql_files())


def test_an_installed_wheel_migrates_a_database(installed: Path, database_url: str) -> None:
    """To the newest revision, with its own functions."""
    name = "pgembed_test_installed"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            url = with_database(database_url, name)
            code = (
                "import sys, pgembed; print(pgembed.migrate(sys.argv[1]).after, pgembed.__file__)"
            )
            revision, where = python(code, url, path=installed).split(" ", 1)
            assert Path(where).is_relative_to(installed)
            assert revision == "0001"
            with psycopg.connect(url) as connection:
                count = "select count(*) from pgembed.collection_status()"
                assert connection.execute(count).fetchone() == (0,)
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_the_installed_command_prints_its_version(installed: Path) -> None:
    """By the module run as a program."""
    code = "import runpy, sys; sys.argv = ['pgembed', '--version']; runpy.run_module('pgembed')"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=installed
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"pgembed {pgembed.__version__}"
