"""The files for a deployment: valid, complete, and with names that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from evermuse_outbox.conf import get_settings
from evermuse_outbox.tasks import RUN_SECONDS

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "docs" / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KUBERNETES = [*yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DEMO = {name: service for name, service in COMPOSE["services"].items() if "demo" in service["profiles"]}
SETTINGS = (ROOT / "example_project" / "settings.py").read_text()

OF_PROGRAMS = {"EXAMPLE_VAR_DIR", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}
"""Variables that are not read by ``env`` in the settings as they are written."""


def workload(name):
    (found,) = [
        item
        for item in KUBERNETES
        if item["metadata"]["name"] == name and item["kind"] in ("Deployment", "Job")
    ]
    return found["spec"]["template"]["spec"]


def command_lines():
    """Return each command as words: of Compose, of Kubernetes, of systemd and of the image."""
    lines = {f"compose {name}": service["command"] for name, service in DEMO.items() if "build" in service}
    for name in ("evermuse-migrate", "evermuse-web", "evermuse-worker", "evermuse-beat"):
        lines[f"kubernetes {name}"] = workload(name)["containers"][0]["command"]
    for unit in UNITS:
        words = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)[1].split()
        lines[f"systemd {unit.name}"] = [Path(words[0]).name, *words[1:]]
    lines["image"] = yaml.safe_load(
        re.search(r"^CMD (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    )
    return lines


@cache
def help_of(program, *arguments):
    """Return the text of ``--help``."""
    words = [str(Path(sys.executable).parent / program), *arguments, "--help"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("place", sorted(command_lines()))
def test_each_program_and_command_exists(place):
    words = command_lines()[place]
    assert (Path(sys.executable).parent / words[0]).exists(), "the program is not installed"
    if "manage.py" in words:
        assert words[words.index("manage.py") + 1] in get_commands()
    options = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--host=0.0.0.0"]
    program = words[:1] if words[0] == "gunicorn" else words[:4] if words[0] == "celery" else words[:3]
    help_text = help_of(*program)
    assert not [option for option in options if option not in help_text]


def variables():
    """Return the environment variables of all files."""
    names = {name for service in DEMO.values() for name in service.get("environment", {})}
    names |= set(KUBERNETES[0]["data"])
    for path in [*UNITS, DEPLOY / "systemd" / "environment"]:
        names |= set(re.findall(r"^(?:Environment=)?([A-Z_]+)=", path.read_text(), re.MULTILINE))
    return sorted(names - OF_PROGRAMS)


@pytest.mark.parametrize("name", variables())
def test_each_variable_is_read_by_the_settings(name):
    """The settings read ``NAME`` from the file that ``NAME_FILE`` names."""
    assert f'"{name.removesuffix("_FILE")}"' in SETTINGS


def test_the_demo_has_what_it_promises():
    assert set(DEMO) == {"migrate", "web", "worker", "beat", "sandbox", "database", "broker"}
    assert DEMO["worker"]["deploy"]["replicas"] == 2
    for name, service in DEMO.items():
        assert name == "migrate" or "healthcheck" in service, name
    for name, service in COMPOSE["services"].items():
        assert service["profiles"] in (["demo"], ["test"]), "without a profile, it would start with the demo"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_secrets_come_from_files_only():
    for name, service in DEMO.items():
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("_FILE"):
                assert Path(value).name in service["secrets"], (name, variable)
            else:
                assert not re.search(r"PASSWORD|SECRET|KEY|TOKEN", variable), (name, variable)
    for name, secret in COMPOSE["secrets"].items():
        assert (DEPLOY / "demo-secrets" / name).read_text().strip()
        assert secret["file"] == f"${{SECRETS_DIR:-./docs/deploy/demo-secrets}}/{name}"


def test_the_image_has_no_secret_and_no_root():
    lines = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert sum(line.startswith("FROM") for line in lines) == 2
    assert "USER 10001:10001" in lines
    assert not [line for line in lines if re.search(r"(PASSWORD|SECRET|TOKEN|API_KEY)", line)]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    copied = " ".join(line for line in lines if line.startswith("COPY") and "--from" not in line).split()
    for word in copied:
        if (ROOT / word).exists() and word != "./":
            assert f"!{word}" in ignored, f"{word} is not in the build"


def test_a_worker_has_time_for_two_tasks():
    """One task runs, and a second one may have been received. Each has its time and one request."""
    seconds = 2 * (RUN_SECONDS + get_settings().timeout)
    assert int(DEMO["worker"]["stop_grace_period"].removesuffix("s")) >= seconds
    assert workload("evermuse-worker")["terminationGracePeriodSeconds"] >= seconds
    unit = (DEPLOY / "systemd" / "evermuse-worker@.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]) >= seconds
    assert "KillMode=mixed" in unit


def test_pods_run_as_the_user_of_the_image_and_read_secrets_as_files():
    for name in ("evermuse-migrate", "evermuse-web", "evermuse-worker", "evermuse-beat"):
        spec = workload(name)
        assert spec["securityContext"]["runAsUser"] == 10001
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
        files = [value for key, value in KUBERNETES[0]["data"].items() if key.endswith("_FILE")]
        assert all(path.startswith(f"{mounts['secrets']}/") for path in files)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_accepts_the_units(tmp_path):
    for unit in UNITS:
        text = unit.read_text().replace("/srv/evermuse/.venv/bin", str(Path(sys.executable).parent))
        (tmp_path / unit.name.replace("@", "@1")).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(
    subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0
    if shutil.which("docker")
    else True,
    reason="no docker compose",
)
def test_docker_compose_accepts_the_file():
    subprocess.run(["docker", "compose", "--profile", "demo", "config", "--quiet"], cwd=ROOT, check=True)
