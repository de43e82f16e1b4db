"""Check that this checkout can be released: ``make release-check``. It changes nothing except ``dist/``.

Every line is a step of the release checklist. A step that fails says what to do, and the others still run. The last
lines say what a person does then.
"""

import datetime
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (
    "py.typed",
    "locale/de/LC_MESSAGES/django.mo",
    "migrations/0001_initial.py",
    "static/evermuse_outbox/admin.css",
    "templates/admin/evermuse_outbox/change_form.html",
)
"""Files without which a host has no types, no German, no tables or no pages."""

UPGRADE_TESTS = ("tests/test_migrations.py", "tests/test_upgrade.py")


class Failure(Exception):
    """A step failed; the text says what to do."""


def output(*command: str) -> str:
    """Return what a command prints. Raise ``Failure`` with its last lines if it fails."""
    environment = os.environ | {"NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise Failure(f"`{' '.join(command)}` failed:\n      " + "\n      ".join(lines))
    return done.stdout.strip()


def version() -> str:
    """Return the version of the package."""
    text = (ROOT / "evermuse_outbox/version.py").read_text()
    return re.search(r'VERSION = "([^"]+)"', text)[1]


def check_version() -> str:
    """Accept a final version, or one with a suffix such as ``rc1``."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version()):
        raise Failure(f"{version()} is no version to release. Change evermuse_outbox/version.py.")
    return version()


def check_changelog() -> str:
    """Compare the first heading of the changelog with the version and the date."""
    return dated_heading(
        (ROOT / "CHANGELOG.md").read_text(), version(), datetime.datetime.now(datetime.UTC).date()
    )


def dated_heading(changelog: str, wanted: str, today: datetime.date) -> str:
    """Return the first heading if it is ``## VERSION (DATE)`` with today's date."""
    first = next((line for line in changelog.splitlines() if line.startswith("## ")), "")
    heading = f"## {wanted} ({today})"
    if first != heading:
        raise Failure(f"The first heading of CHANGELOG.md is {first!r}. Make it {heading!r}.")
    return first


def check_tree() -> str:
    """Accept only files that are committed."""
    if changes := output("git", "status", "--porcelain"):
        raise Failure(f"Commit or remove these files:\n{changes}")
    return output("git", "rev-parse", "--short", "HEAD")


def check_tags() -> str:
    """Refuse a version that has a tag, or that is not above the latest one."""
    tags = output("git", "tag", "--list", "v*", "--sort=-version:refname").splitlines()
    if f"v{version()}" in tags:
        raise Failure(f"The tag v{version()} exists. Raise the version.")
    return f"the latest tag is {tags[0]}" if tags else "there is no tag yet"


def check_migrations() -> str:
    """Refuse a model that differs from the migrations."""
    return output(sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")


def build() -> str:
    """Build the sdist and the wheel into an empty ``dist/``."""
    for file in (ROOT / "dist").glob("*"):
        file.unlink()
    output(sys.executable, "-m", "build")
    return ", ".join(sorted(file.name for file in (ROOT / "dist").iterdir()))


def packages() -> list[str]:
    """Return the packages that were built."""
    found = sorted(map(str, (ROOT / "dist").glob(f"evermuse_outbox-{version()}*")))
    if len(found) != 2:
        raise Failure("dist/ does not have a wheel and an sdist of this version.")
    return found


def check_metadata() -> str:
    """Check that an index page can show the README."""
    return output(sys.executable, "-m", "twine", "check", "--strict", *packages()).splitlines()[-1]


def check_wheel() -> str:
    """Check what the wheel contains."""
    wheel = next(package for package in packages() if package.endswith(".whl"))
    return check_names(zipfile.ZipFile(wheel).namelist())


def check_names(names: list[str]) -> str:
    """Refuse a wheel without a file that hosts need, or with a file outside of the package."""
    missing = [name for name in NEEDED if f"evermuse_outbox/{name}" not in names]
    foreign = [
        name
        for name in names
        if not re.match(r"evermuse_outbox(-[\d.abrc]+\.dist-info)?/", name) or "__pycache__" in name
    ]
    if missing or foreign:
        raise Failure(f"The wheel lacks {missing} and has {foreign}.")
    return f"{len(names)} files"


def check_installation() -> str:
    """Install both packages into new environments, with and without extras."""
    return output("bash", ".ci/try_wheel").splitlines()[-1]


def check_upgrade() -> str:
    """Upgrade databases with rows from each earlier schema, on every database of this machine."""
    return output(sys.executable, "-m", "pytest", "-q", *UPGRADE_TESTS).splitlines()[-1]


STEPS: dict[str, Callable[[], str]] = {
    "version": check_version,
    "changelog": check_changelog,
    "clean tree": check_tree,
    "tag": check_tags,
    "migrations": check_migrations,
    "build": build,
    "metadata and README": check_metadata,
    "files of the wheel": check_wheel,
    "installation and extras": check_installation,
    "upgrade of a database": check_upgrade,
}

THEN = """
Then, by hand:
  1. `bash .ci/run` passes on this commit.
  2. The addresses in [project.urls] of pyproject.toml answer.
  3. git tag --annotate v{version} --message v{version} && git push --follow-tags
  4. python -m twine upload dist/*
  5. Add the heading of the next version to CHANGELOG.md, and raise evermuse_outbox/version.py.
"""


def main() -> int:
    """Run the steps, and return the exit status."""
    failures = 0
    for name, step in STEPS.items():
        try:
            print(f"  ok      {name}: {step()}", flush=True)
        except Failure as failure:
            failures += 1
            print(f"  FAILED  {name}: {failure}", flush=True)
    print(THEN.format(version=version()) if not failures else f"\n{failures} steps failed.")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
