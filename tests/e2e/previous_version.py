"""The code of the version before, from the history of this repository. No network is needed."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from tests.e2e.host_processes import ROOT

PREVIOUS = "0b348c55390a6e61b04c5c4b051d364b8c0acc48"
"""Commit of the last release. Set it to the commit of each release, when it is made."""

USER_AGENT = "evermuse-outbox/previous"
"""What the copy calls itself at Evermuse, so that a test can see which version has sent a request."""


def copy_previous_version(folder: Path) -> Path:
    """Write the code of the version before into a folder, and return the folder.

    Raises:
        AssertionError: The history of this repository lacks the commit.
    """
    done = subprocess.run(["git", "archive", "--format=tar", PREVIOUS], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, (
        f"the version before is the commit {PREVIOUS}, which this clone lacks. A shallow clone gets it by: "
        f"git fetch --unshallow. {done.stderr.decode(errors='replace').strip()}"
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    client = folder / "evermuse_outbox" / "evermuse" / "api" / "client.py"
    code = client.read_text("utf-8")
    assert 'f"evermuse-outbox/{VERSION}"' in code
    client.write_text(code.replace('f"evermuse-outbox/{VERSION}"', f'"{USER_AGENT}"'), "utf-8")
    return folder
