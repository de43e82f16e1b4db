"""``manage.py evermuse_sandbox`` in a separate process, without a database and almost without settings."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from .conftest import BATCHES, Client
from .published import record

START = """
import sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=[])
django.setup()
from evermuse_outbox.management.commands.evermuse_sandbox import Command
Command().run_from_argv(["manage.py", "evermuse_sandbox", *sys.argv[1:]])
"""
ROOT = Path(__file__).resolve().parents[2]


class Address:
    """The part of a sandbox that ``Client`` uses."""

    def __init__(self, url: str) -> None:
        self.url = url


def start_command(*arguments: str) -> subprocess.Popen[str]:
    """Start the command without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def run():
    """Return a function that starts the command and returns its process, its address and its first line."""
    processes = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], Address, str]:
        process = start_command("--port", "0", *arguments)
        processes.append(process)
        greeting = process.stdout.readline()
        url = re.search(r"http://\S+?(?=,)", greeting)
        assert url, greeting + process.stderr.read()
        return process, Address(url[0]), greeting

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], number: int) -> str:
    """Stop the command with a signal and return its output."""
    process.send_signal(number)
    out, err = process.stdout.read(), process.stderr.read()
    assert (process.wait(timeout=10), err) == (0, "")
    return out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_a_line_for_each_request_and_a_summary(run, number):
    process, address, greeting = run()
    assert "reference contract" in greeting
    assert "the default API key" in greeting
    client = Client(address)
    client.post([record(), record(data=5)])
    client.post([record(data=5)])
    client.send("GET", BATCHES)
    lines = stop(process, number).splitlines()
    assert lines[0] == f"Page with requests, records and faults: {address.url}/"
    posted, refused, read = lines[2:5]
    assert re.match(r"\d\d:\d\d:\d\d  POST /api/v1/ingest  message . 2  [\d,]+ bytes  202 batch_", posted)
    assert posted.endswith("  1 rejected")
    assert "400 VALIDATION_ERROR: " in refused
    assert read.endswith("GET  /api/v1/ingest/batches  200")
    assert lines[-1].startswith("Requests: 3 (200 × 1, 202 × 1, 400 × 1). Batches: 1. Records accepted: 1.")


def test_it_names_api_keys_by_their_position(run):
    process, address, greeting = run("--key", "em_sk_first_secret", "--key", "em_sk_second_secret")
    Client(address, "em_sk_second_secret").post([record()])
    Client(address, "em_sk_wrong\x1b[2Jkey").send("GET", BATCHES, has_published_shape=False)
    output = greeting + stop(process, signal.SIGTERM)
    assert "API keys: 2" in output
    assert "  key 2\n" in output
    assert "  unknown key\n" in output
    assert "secret" not in output
    assert "em_sk_" not in output
    assert "\x1b" not in output


def test_its_options_reach_the_sandbox(run):
    process, address, _ = run("--quiet", "--contract", "openapi", "--rate-limit", "1", "--batch-seconds", "0")
    client = Client(address)
    assert client.post([record("openapi")]).status_code == 202
    assert client.post([record("openapi")]).status_code == 429
    assert len(stop(process, signal.SIGTERM).splitlines()) == 3


def test_with_fail_100_every_request_meets_a_fault(run):
    process, address, _ = run("--fail", "100", "--rate-limit", "1000")
    for _ in range(5):
        with contextlib.suppress(requests.ConnectionError):
            assert Client(address).post([record()], has_published_shape=False).status_code in (429, 500, 502)
    output = stop(process, signal.SIGTERM)
    assert output.count("injected fault") + output.count("connection dropped") == 5


def test_a_port_in_use_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = start_command("--port", str(listener.getsockname()[1]))
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.startswith("CommandError: Cannot listen on 127.0.0.1:")


@pytest.mark.parametrize("arguments", [["--fail", "101"], ["--batch-seconds", "nan"], ["--rate-limit", "0"]])
def test_invalid_arguments_are_reported(arguments):
    process = start_command(*arguments)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert arguments[0] in err


def run_command(*arguments: str) -> tuple[int, str, str]:
    """Run the command to its end and return its exit status and its output."""
    process = start_command(*arguments)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def test_faults_are_injected_at_the_start_and_from_a_second_terminal(run):
    _, address, _ = run("--fault", "status=503", "count=1", "--fault", "reject=id:1", "message=not allowed")
    client = Client(address)
    assert client.post([record()]).status_code == 503
    rejected = client.post([record(_vendor_ids={"id": "1"})])
    assert rejected.json()["details"]["errors"][0]["message"] == "not allowed"
    status, out, err = run_command(
        "--to", address.url, "--clear-faults", "--fail", "0", "--fault", "status=402", "type=message"
    )
    assert (status, err) == (0, "")
    assert out == "Random faults: 0 %\n3: answer 402 (POST, type message); 1 requests\n"
    assert client.post([record()], has_published_shape=False).status_code == 402


def test_a_key_is_refused_from_a_second_terminal(run):
    _, address, _ = run("--key", "em_sk_a", "--key", "em_sk_b", "--listing-scope", "key")
    client = Client(address, "em_sk_b")
    assert client.post([record()]).status_code == 202
    assert Client(address, "em_sk_a").send("GET", BATCHES).json()["batches"] == []
    status, out, err = run_command("--to", address.url, "--refuse-keys", "2", "--listing-scope", "workspace")
    assert (status, out, err) == (0, "Random faults: 0 %\nRefused API keys: 2\n", "")
    assert client.post([record()]).status_code == 401
    assert len(Client(address, "em_sk_a").send("GET", BATCHES).json()["batches"]) == 1
    assert run_command("--to", address.url, "--refuse-keys")[1] == "Random faults: 0 %\n"
    assert client.post([record()]).status_code == 202


def test_the_token_and_the_api_key_come_from_files(run, tmp_path):
    token, key = tmp_path / "token", tmp_path / "key"
    token.write_text("a-token-for-the-test\n")
    key.write_text("em_sk_from_a_file\n")
    arguments = ("--control-token-file", str(token))
    process, address, _ = run(*arguments, "--key-file", str(key), "--allow-host", "sandbox")
    client = Client(address, "em_sk_from_a_file")
    assert client.send("GET", BATCHES, headers={"Host": "sandbox:8787"}).status_code == 200
    status, _, err = run_command("--to", address.url, "--clear-faults")
    assert (status, err) == (1, "CommandError: The sandbox requires its token: use --control-token-file.\n")
    assert run_command("--to", address.url, *arguments)[0] == 0
    output = stop(process, signal.SIGTERM)
    assert "a-token" not in output
    assert "from_a_file" not in output


def test_an_address_without_a_scheme_says_what_is_missing():
    status, _, err = run_command("--to", "127.0.0.1:8787")
    assert (status, err) == (2, "CommandError: 127.0.0.1:8787 is no URL: use http://127.0.0.1:8787\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "statuss=500"], "did you mean status?"),
        (["--fault", "status"], "must be field=value"),
        (["--key-file", "/nonexistent"], "Cannot read /nonexistent: FileNotFoundError"),
        (["--key-file", "/dev/null"], "/dev/null is empty"),
        (["--to", "http://127.0.0.1:1"], "No sandbox answers at http://127.0.0.1:1"),
    ],
)
def test_a_wrong_option_says_what_to_change(arguments, message):
    status, _, err = run_command(*arguments)
    assert status == 1
    assert message in err


def test_help_ends_with_examples():
    out, _ = start_command("--help").communicate(timeout=10)
    assert "curl -X POST http://127.0.0.1:8787/api/v1/ingest" in out
    assert "\n  manage.py evermuse_sandbox --fail 20\n" in out
