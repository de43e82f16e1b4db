"""A walk through the admin: every page of the outbox that a link leads to, and every form.

Nothing here names a page, so a new page is walked as soon as another page links to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit

from django.test import Client
from django.urls import resolve, reverse

APP = "evermuse_outbox"

MAX_ROWS = 60
"""Pages of rows of the same model."""

MAX_ALIKE = 6
"""Pages of the same view whose queries have the same names, such as ``?state=``."""

INLINE = re.compile(
    r"""<style|\bstyle\s*=\s*["']|<script(?![^>]*\bsrc=)|\bon[a-z]+\s*=\s*["']|javascript:|<base\b"""
)
"""Styles and scripts inside a page. The policies ``style-src 'self'`` and ``script-src 'self'`` block them."""

SEPARATED_ID = re.compile(r"1[.,'’\s\xa0\u202f]234[.,'’\s\xa0\u202f]\d{3}(?!\d)")
"""An id from ``FIRST_ID`` of ``every_state`` on with thousand separators."""


class Page(NamedTuple):
    """A page that was fetched, and where its address was found."""

    address: str
    status: int
    html: str
    found_on: str


@dataclass
class Form:
    """A form with its fields as a browser submits them: the first choice of each list."""

    action: str
    method: str
    id: str
    can_submit: bool = False
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)


class Elements(HTMLParser):
    """The links, forms and other elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.forms: list[Form] = []
        self.starts: list[tuple[str, dict[str, str]]] = []
        self.has_nested_forms = False
        self._select = self._text_area = ""
        self._is_in_form = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = {name: value or "" for name, value in attrs}
        self.starts.append((tag, values))
        match tag:
            case "a" if "href" in values:
                self.links.append(values["href"])
            case "form":
                method = values.get("method", "get").lower()
                self.has_nested_forms |= self._is_in_form
                self._is_in_form = True
                self.forms.append(Form(values.get("action", ""), method, values.get("id", "")))
            case "link" | "script" | "img":
                self.sources.append(values.get("href") or values.get("src", ""))
            case "input" | "select" | "textarea" | "button" if self.forms:
                self._add_field(tag, values)
            case "option" if self.forms and self._select:
                self.forms[-1].choices[self._select].append(values.get("value", ""))

    def _add_field(self, tag: str, values: dict[str, str]) -> None:
        name = values.get("name", "")
        if tag == "button" or values.get("type") == "submit":
            self.forms[-1].can_submit = True
        if tag == "select":
            self._select = name
            self.forms[-1].choices[name] = []
        elif name and tag != "button":
            self.forms[-1].fields.setdefault(name, values.get("value", ""))
            self._text_area = name if tag == "textarea" else ""

    def handle_data(self, data: str) -> None:
        if self._text_area:
            self.forms[-1].fields[self._text_area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._text_area = ""
        if tag == "select":
            self._select = ""
        if tag == "form":
            self._is_in_form = False


def walk(client: Client, site: str = "admin", rows: int = MAX_ROWS) -> Iterator[Page]:
    """Yield each page of the outbox in an admin site, from its app index on. Lists are filtered by one field each.

    Of the rows of a model, at most ``rows`` have their pages among them.
    """
    start = reverse("admin:app_list", args=[APP], current_app=site)
    waiting = [(start, "the start")]
    seen, alike = {start}, {}
    while waiting:
        address, found_on = waiting.pop(0)
        response = client.get(address)
        is_html = response.get("Content-Type", "").startswith("text/html")
        html = response.content.decode() if is_html else ""
        yield Page(address, response.status_code, html, found_on)
        for link in Elements(html).links:
            target = urljoin(address, link).partition("#")[0]
            if target in seen or not is_of_outbox(target):
                continue
            seen.add(target)
            kind = kind_of(target)
            alike[kind] = alike.get(kind, 0) + 1
            if alike[kind] <= (MAX_ALIKE if kind[1] else rows) and (
                len(kind[1]) < 2 or not urlsplit(address).query
            ):
                waiting.append((target, address))


def is_of_outbox(address: str) -> bool:
    """Return whether an address is a page of the outbox in an admin site."""
    parts = urlsplit(address)
    return not parts.netloc and f"/{APP}/" in parts.path


def kind_of(address: str) -> tuple[str, tuple[str, ...]]:
    """Return the view and the names in the query of an address."""
    parts = urlsplit(address)
    match = resolve(parts.path)
    names = tuple(sorted({name for name, _value in parse_qsl(parts.query, keep_blank_values=True)}))
    return f"{match.view_name} {parts.path.partition(APP)[0]}", names


def submit_forms(client: Client, pages: list[Page]) -> Iterator[Page]:
    """Submit the forms that post to the outbox, and yield each answer; for a redirect, the page after it too.

    The actions of the lists come last: they may delete a row whose page has a form.
    """
    forms = [(page.address, form) for page in pages for form in Elements(page.html).forms]
    done = set()
    for address, form in sorted(forms, key=lambda pair: "_selected_action" in pair[1].fields):
        target = urljoin(address, form.action)
        if form.method != "post" or not form.can_submit or not is_of_outbox(target):
            continue
        kind = (kind_of(target), form.fields.get("action"))
        # An earlier form may have deleted the row of this page.
        if kind not in done and client.get(address).status_code == 200:
            done.add(kind)
            for fields in variants(form):
                yield from post(client, target, fields, address)


def variants(form: Form) -> Iterator[dict[str, str]]:
    """Yield the fields of a form, once for each action of a list."""
    fields = form.fields | {name: values[-1] for name, values in form.choices.items() if values}
    actions = [value for value in form.choices.get("action", []) if value]
    for action in actions:
        yield fields | {"action": action, "index": "0"}
    if not actions and "_selected_action" not in fields:
        yield fields


def post(client: Client, target: str, fields: dict[str, str], found_on: str) -> Iterator[Page]:
    """Post a form, and follow its redirects."""
    response = client.post(target, fields)
    name = f"POST {target} {fields.get('action', '')}"
    yield Page(name, response.status_code, response.content.decode(), found_on)
    while response.status_code in (301, 302):
        target = urljoin(target, response["Location"])
        response = client.get(target)
        yield Page(target, response.status_code, response.content.decode(), name)
