"""Execute the tutorial as it is printed, in a new folder and a new environment.

    python -m tests.documentation.tutorial --package dist/evermuse_outbox-0.1.0-py3-none-any.whl

Files are written and commands are run in the order of the page, and each shown line of output must appear. Two things
differ from what a reader does: ``PACKAGE`` is the package to test, and the sandbox listens on a free port.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tests.documentation.blocks import FILE, Block, Command, missing_line, read_blocks, read_commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial" / "index.md"

COMMAND_TIMEOUT = 300
"""Seconds for a command. The slowest one installs the package from an index."""

START_TIMEOUT = 60
"""Seconds until the output of a server is there, on a busy machine."""

STOP_TIMEOUT = 30
"""Seconds for the warm shutdown of a worker."""

DEFAULT_PORT = "8787"
SETS_PACKAGE = "export PACKAGE="


class Wrong(Exception):
    """The tutorial does not do what it shows. The text names the line of the page."""


class Server(NamedTuple):
    """A process that runs in a terminal of its own until the end, and the file with its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def await_output(self, expected: tuple[str, ...], where: Block) -> None:
        """Wait until the expected lines are printed."""
        deadline = time.monotonic() + START_TIMEOUT
        while (line := missing_line(expected, self.log.read_text(errors="replace"))) is not None:
            if time.monotonic() > deadline or self.process.poll() is not None:
                printed = self.log.read_text(errors="replace")
                raise Wrong(f"{where}: the {where.title} did not print {line!r}. It printed:\n{printed}")
            time.sleep(0.1)


class Reader:
    """Follow the page in a folder.

    Args:
        folder: an empty folder.
        python: the interpreter that ``python3`` means on the page.
        package: what is installed: the path of a wheel or of a checkout.
        constraints: a file with the versions to install; the newest ones without it.
    """

    def __init__(self, folder: Path, python: Path, package: Path, constraints: Path | None = None) -> None:
        self._folder = folder / "project"
        self._folder.mkdir()
        self._logs = folder
        self._port = str(_free_port())
        self._servers: dict[str, Server] = {}
        commands = folder / "bin"
        commands.mkdir()
        (commands / "python3").symlink_to(python)
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DJANGO_", "EVERMUSE_", "PYTHON", "VIRTUAL_ENV", "CELERY_", "COVERAGE"))
        } | {
            "PACKAGE": str(package),
            "PATH": f"{self._folder}/.venv/bin:{commands}:{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if constraints:
            self._environment["PIP_CONSTRAINT"] = str(constraints)

    def follow(self, blocks: list[Block]) -> None:
        """Execute every block of the page.

        Raises:
            Wrong: A command fails, or a shown line is missing in its output.
        """
        for block in blocks:
            text = block._replace(text=block.text.replace(DEFAULT_PORT, self._port))
            if block.language == "python":
                self._write(text)
            elif block.language == "text":
                self._servers[block.title].await_output(tuple(text.text.splitlines()), block)
            elif block.title:
                self._start(text)
            else:
                for command in read_commands(text):
                    self._run(command, block)

    def stop(self) -> None:
        """Stop the servers, the last one first, as Ctrl-C does."""
        for server in reversed(self._servers.values()):
            if server.process.poll() is None:
                os.killpg(server.process.pid, signal.SIGINT)
        for title, server in self._servers.items():
            try:
                server.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()
                raise Wrong(f"the {title} did not stop:\n{server.log.read_text()}") from None

    def _write(self, block: Block) -> None:
        name = FILE.match(block.text)
        if name is None:
            raise Wrong(f"{block}: the first line must be a comment with the path of the file")
        path, content = self._folder / name["path"], block.text[name.end() :]
        if name["is_part"]:
            content = f"{path.read_text()}\n{content}"
        path.write_text(content)

    def _run(self, command: Command, block: Block) -> None:
        if command.text.startswith(SETS_PACKAGE):
            return
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        _report(f"{time.monotonic() - started:6.1f} s  {command.text}")
        if (done.returncode != 0) is not _shows_error(command):
            logs = "".join(f"\n{title}:\n{server.log.read_text()}" for title, server in self._servers.items())
            raise Wrong(f"{block}: {command.text}: exit status {done.returncode}\n{output}{logs}")
        if (line := missing_line(command.output, output)) is not None:
            raise Wrong(f"{block}: {command.text} did not print {line!r}. It printed:\n{output}")

    def _start(self, block: Block) -> None:
        (command,) = read_commands(block)
        text = command.text
        if " evermuse_sandbox" in text:
            text = f"{text} --port {self._port}"
        log = self._logs / f"{block.title.replace(' ', '-')}.log"
        with log.open("wb") as file:
            process = _popen(text, file, self._folder, self._environment)
        self._servers[block.title] = server = Server(process, log)
        server.await_output(command.output, block)
        _report(f"          {text}")


def _popen(text: str, log: IO[bytes], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-c", f"exec {text}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _shows_error(command: Command) -> bool:
    """Return whether the page shows an exception as the output of the command, so that it must fail."""
    return any(re.match(r"[\w.…]*(?:Error|Exception|InvalidRecord): ", line) for line in command.output)


def _report(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def reader(python: Path, package: Path, constraints: Path | None = None) -> Iterator[Reader]:
    """Yield a reader in a temporary folder, and stop its servers at the end."""
    with tempfile.TemporaryDirectory(prefix="tutorial-", ignore_cleanup_errors=True) as folder:
        following = Reader(Path(folder), python, package, constraints)
        try:
            yield following
        finally:
            following.stop()


def main() -> None:
    """Execute the tutorial with the package of the command line. Exit with status 1 if it is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--package", type=Path, required=True, help="path of a wheel or of a checkout")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="interpreter of the new environment"
    )
    parser.add_argument("--constraints", type=Path, help="file with the versions to install")
    options = parser.parse_args()
    constraints = options.constraints.resolve() if options.constraints else None
    started = time.monotonic()
    try:
        with reader(options.python.absolute(), options.package.resolve(), constraints) as following:
            following.follow(list(read_blocks(PAGE, ROOT)))
    except Wrong as error:
        sys.exit(str(error))
    _report(f"The tutorial works as it is printed, in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
