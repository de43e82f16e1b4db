"""The German catalogue: it has every text of the package, with the same placeholders, and is compiled."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

import evermuse_outbox

PACKAGE = Path(evermuse_outbox.__file__).parent
CATALOGUE = PACKAGE / "locale" / "de" / "LC_MESSAGES" / "django.po"
HOW_TO_UPDATE = "run `make messages`, translate, and run `make messages` again: see CONTRIBUTING.md"

FUNCTIONS = {"_", "gettext", "gettext_lazy", "gettext_noop"}
PLURAL_FUNCTIONS = {"ngettext", "ngettext_lazy"}
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sdr]")

Texts = dict[tuple[str, ...], tuple[str, ...]]
"""Singular, or singular and plural → the translations."""


def texts_of_code(source: str) -> Iterator[tuple[str, ...]]:
    """Yield the texts that Python code translates: the singular, or the singular and the plural."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func).rpartition(".")[2]
        number = 1 if name in FUNCTIONS else 2 if name in PLURAL_FUNCTIONS else 0
        texts = [node.value for node in call.args[:number] if isinstance(node, ast.Constant)]
        if texts and len(texts) == number:
            yield tuple(map(str, texts))


def texts_of_template(source: str) -> Iterator[tuple[str, ...]]:
    """Yield the texts that a template translates."""
    code = templatize(source)
    for call in re.findall(r"\bn?gettext\((?:[^()'\"]|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")*\)", code):
        yield from texts_of_code(call.replace("\n", " "))


def texts_of_package() -> set[tuple[str, ...]]:
    """Return all texts that the package translates."""
    code = (path for path in PACKAGE.rglob("*.py") if "migrations" not in str(path))
    texts = {text for path in code for text in texts_of_code(path.read_text("utf-8"))}
    for path in PACKAGE.rglob("*.html"):
        texts |= set(texts_of_template(path.read_text("utf-8")))
    return texts


def read_catalogue() -> Texts:
    """Return the entries of the catalogue, without its header."""
    texts: Texts = {}
    for entry in CATALOGUE.read_text("utf-8").split("\n\n"):
        fields: list[list[str]] = []
        for line in entry.splitlines():
            if keyword := re.match(r"(msg\S+) ", line):
                fields.append([keyword[1], ""])
            if not line.startswith("#"):
                fields[-1][1] += ast.literal_eval(line.partition(" ")[2] if keyword else line)
        ids = tuple(text for name, text in fields if name.startswith("msgid"))
        texts[ids] = tuple(text for name, text in fields if name.startswith("msgstr"))
    return {ids: strings for ids, strings in texts.items() if ids not in ((), ("",))}


def test_the_catalogue_has_every_text_and_no_other() -> None:
    entries = set(read_catalogue())
    expected = texts_of_package()
    assert len(expected) > 400
    assert expected - entries == set(), HOW_TO_UPDATE
    assert entries - expected == set(), HOW_TO_UPDATE


def test_every_text_is_translated_with_its_placeholders() -> None:
    for ids, strings in read_catalogue().items():
        assert all(strings), (ids, HOW_TO_UPDATE)
        for text in strings:
            assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(ids[-1])), ids
            assert text[:1].isspace() == ids[0][:1].isspace(), ids


def test_the_compiled_catalogue_is_up_to_date() -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as compiled:
        catalogue = gettext.GNUTranslations(compiled)
    expected = {}
    for ids, strings in read_catalogue().items():
        plural = len(ids) > 1
        expected |= {(ids[0], i) if plural else ids[0]: text for i, text in enumerate(strings)}
    assert {key: text for key, text in catalogue._catalog.items() if key} == expected, HOW_TO_UPDATE


@pytest.mark.django_db
def test_a_page_in_german(admin_client: Client, every_state: None, settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    with translation.override("en"):  # restores the language of the other tests
        address = "/admin/evermuse_outbox/outboxrecord/?state=rejected"
        text = admin_client.get(address, headers={"Accept-Language": "de"}).content.decode()
    assert "abgelehnt" in text
    assert "Abgelehnte Datensätze wiederholen" in text
    assert "Datensatz zum Ansehen auswählen" in text
