"""The commands of docker-compose.yml as processes of this machine: no container engine is needed.

The variables are those of the file. Only the addresses and the folder of the secrets are those of this machine.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
import yaml

from benchmarks.common.databases import fresh_database
from benchmarks.common.processes import end
from tests.services import POSTGRES_URL, REDIS_URL

from .host_processes import ROOT, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(not (POSTGRES_URL and REDIS_URL), reason="no PostgreSQL or no Redis"),
]

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

SECRETS = {
    "database_password": "",
    "django_secret_key": secrets.token_urlsafe(40),
    "evermuse_api_key": f"em_sk_{secrets.token_urlsafe(12)}",
    "sandbox_token": secrets.token_urlsafe(16),
}

FORM = {"customer_name": "Zoë", "customer_email": "zoe@example.com", "subject": "Hello", "body": "It works."}


def free_port() -> int:
    """Return a port that no process uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Deployment:
    """The processes of the demo.

    Attributes:
        addresses: Texts of the file and what stands for them on this machine.
    """

    def __init__(self, home: Path, addresses: dict[str, str]) -> None:
        self.home = home
        self.addresses = addresses
        self.processes: dict[str, subprocess.Popen] = {}

    def here(self, text: str) -> str:
        """Return a text of the file with the addresses of this machine."""
        for name, address in self.addresses.items():
            text = text.replace(name, address)
        return text

    def command(self, name: str) -> tuple[list[str], dict[str, str]]:
        """Return the words and the environment of a service. Nothing of this process's environment is in it."""
        service = SERVICES[name]
        environment = {key: self.here(value) for key, value in service["environment"].items()}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        environment |= {"EXAMPLE_VAR_DIR": str(self.home / "var"), "C_FORCE_ROOT": "1"}
        environment["CELERY_TASK_DEFAULT_QUEUE"] = self.home.name
        program, *words = (self.here(word) for word in service["command"])
        return [str(Path(sys.executable).parent / program), *words], environment

    def start(self, name: str, *more: str) -> None:
        """Start a service."""
        words, environment = self.command(name)
        key = f"{name}-{len(self.processes)}"
        with (self.home / f"{key}.log").open("wb") as log:
            self.processes[key] = subprocess.Popen(
                [*words, *more], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, name: str) -> None:
        """Run a service to its end."""
        words, environment = self.command(name)
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def probe(self, name: str) -> bool:
        """Return whether the health check of a service succeeds."""
        kind, *test = SERVICES[name]["healthcheck"]["test"]
        words = test if kind == "CMD" else ["sh", "-c", test[0].replace("$$", "$")]
        _, environment = self.command(name)
        words = [self.here(word).replace("/var/lib/app", environment["EXAMPLE_VAR_DIR"]) for word in words]
        environment["HOSTNAME"] = "worker-0"
        return (
            subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=60).returncode == 0
        )

    def logs(self) -> str:
        """Return what the processes have written."""
        return "\n".join(path.read_text(errors="replace") for path in self.home.glob("*.log"))


@pytest.fixture
def deployment(tmp_path):
    home = tmp_path / f"deploy-{uuid.uuid4().hex[:8]}"
    (home / "secrets").mkdir(parents=True)
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(POSTGRES_URL, home, "deploy"))
        user, password, address = re.fullmatch(r"postgres\w*://([^:]+):([^@]*)@(.*)", url).groups()
        for name, value in (SECRETS | {"database_password": password}).items():
            (home / "secrets" / name).write_text(value + "\n")
        addresses = {
            "evermuse@database:5432/evermuse": f"{user}@{address}",
            "redis://broker:6379/0": REDIS_URL,
            "http://sandbox:8787": f"http://localhost:{(port := free_port())}",
            "127.0.0.1:8787": f"127.0.0.1:{port}",
            "--host=0.0.0.0": f"--port={port}",
            "0.0.0.0:8000": (web := f"127.0.0.1:{free_port()}"),
            "127.0.0.1:8000": web,
            "/run/secrets": str(home / "secrets"),
        }
        running = Deployment(home, addresses)
        stack.callback(lambda: end(list(running.processes.values())))
        running.web, running.sandbox = f"http://{web}", f"http://127.0.0.1:{port}"
        yield running


def test_the_processes_of_the_demo_deliver_a_record_and_stop(deployment):
    deployment.run("migrate")
    deployment.start("sandbox")
    deployment.start("web")
    for number in range(SERVICES["worker"]["deploy"]["replicas"]):
        deployment.start("worker", "--hostname", f"celery@worker-{number}")
    deployment.start("beat")
    for name in ("sandbox", "web", "worker", "beat"):
        wait_until(
            lambda name=name: deployment.probe(name), f"{name} is healthy: {deployment.logs()[-2000:]}"
        )

    with requests.Session() as browser:
        browser.trust_env = False
        page = browser.get(f"{deployment.web}/", timeout=10)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
        form = {"csrfmiddlewaretoken": token} | FORM
        assert browser.post(f"{deployment.web}/", data=form, timeout=10).status_code == 200
        assert browser.get(f"{deployment.web}/static/admin/css/base.css", timeout=10).status_code == 200
        headers = {"Authorization": f"Bearer {SECRETS['sandbox_token']}"}

        def arrived():
            answer = browser.get(f"{deployment.sandbox}/sandbox/records", headers=headers, timeout=10)
            return [record for record in answer.json()["records"] if record["state"] == "accepted"]

        wait_until(arrived, f"the record arrives: {deployment.logs()[-2000:]}")
        health = f"{deployment.web}/health/outbox/"
        wait_until(lambda: browser.get(health, timeout=10).status_code == 200, "the outbox is healthy")

    for process in deployment.processes.values():
        process.send_signal(signal.SIGTERM)
    codes = {name: process.wait(timeout=75) for name, process in deployment.processes.items()}
    assert set(codes.values()) == {0}, codes
    output = deployment.logs()
    assert not [name for name, secret in SECRETS.items() if secret and secret in output]
