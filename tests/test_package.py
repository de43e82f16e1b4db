"""The package as an index and a resolver see it: README, addresses, versions and extras."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import django
import pytest
from django.db.backends.mysql.features import DatabaseFeatures as MySQL
from django.db.backends.postgresql.features import DatabaseFeatures as PostgreSQL
from django.db.backends.sqlite3.features import DatabaseFeatures as SQLite

from evermuse_outbox.conf import DOCUMENTATION

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
HOME = PYPROJECT["project"]["urls"]["Homepage"]


def published_readme() -> str:
    """Return the README with the replacements that the build makes."""
    text = README
    for rule in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_the_published_readme_has_only_complete_addresses():
    targets = re.findall(r"\]\(([^)]+)\)", published_readme())
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith("https://")] == []
    assert not re.search(r"\b(?:src|href)=", published_readme())


def test_the_published_images_are_files_and_not_pages():
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", published_readme())
    assert images
    assert all(image.startswith("https://raw.") for image in images)


def test_each_link_of_the_readme_leads_to_a_file():
    targets = re.findall(r"\]\((?!https://)([^)#]+)", README)
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_the_addresses_of_the_project_belong_to_one_repository():
    urls = PYPROJECT["project"]["urls"]
    assert {"Homepage", "Documentation", "Changelog", "Issues", "Source"} <= urls.keys()
    assert all(url.startswith(HOME) for url in urls.values())


def test_each_page_that_a_hint_names_exists_in_the_repository():
    assert f"{HOME}/blob/main/docs" == DOCUMENTATION
    code = [path.read_text() for path in (ROOT / "evermuse_outbox").rglob("*.py")]
    pages = {page for text in code for page in re.findall(r"see_docs\(['\"]([^'\"]+)", text)}
    assert pages
    assert [page for page in pages if not (ROOT / "docs" / page).is_file()] == []


# --- versions -----------------------------------------------------------------------------------------


def table_rows() -> dict[str, list[str]]:
    """Return the rows of the README's table of versions, by Django version."""
    rows = re.findall(r"^\| (\d\.\d) \| (.+) \|$", README, re.MULTILINE)
    return {version: [cell.strip() for cell in cells.split("|")] for version, cells in rows}


def classifiers(prefix: str) -> list[str]:
    """Return the versions that the classifiers with this beginning name."""
    found = [
        text.removeprefix(prefix) for text in PYPROJECT["project"]["classifiers"] if text.startswith(prefix)
    ]
    return [text for text in found if re.fullmatch(r"\d+\.\d+", text)]


def test_readme_classifiers_and_requirements_name_the_same_versions():
    assert list(table_rows()) == classifiers("Framework :: Django :: ")
    pythons = classifiers("Programming Language :: Python :: ")
    assert table_rows()["5.2"][0] == f"{pythons[0]} to {pythons[-1]}"
    assert PYPROJECT["project"]["requires-python"] == f">={pythons[0]}"
    home = (ROOT / "docs" / "index.md").read_text()
    assert f"| Python | {pythons[0]} to {pythons[-1]} |" in home
    assert f"| Django | {', '.join(table_rows())} |" in home


class Connection:
    """A connection to MySQL or MariaDB, as far as Django's features look at it."""

    def __init__(self, is_mariadb: bool) -> None:
        self.mysql_is_mariadb = is_mariadb


@pytest.mark.parametrize(
    ("column", "features"),
    [
        (1, PostgreSQL),
        (2, MySQL(Connection(is_mariadb=True))),
        (3, MySQL(Connection(is_mariadb=False))),
        (4, SQLite),
    ],
    ids=["postgresql", "mariadb", "mysql", "sqlite"],
)
def test_the_readme_names_the_oldest_database_that_this_django_supports(column, features):
    row = table_rows()["{}.{}".format(*django.VERSION)]
    assert row[column] == ".".join(map(str, features.minimum_database_version))


def test_ci_runs_the_newest_python_that_the_classifiers_name():
    newest = classifiers("Programming Language :: Python :: ")[-1]
    assert f"for version in {newest} " in (ROOT / ".ci/run").read_text()
    assert newest in (ROOT / ".github/workflows/ci.yml").read_text()
