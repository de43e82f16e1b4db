"""Tests of converting HTML to text."""

from __future__ import annotations

import pytest

from example_project.support.html_text import text_of_html


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (
            "<a href='https://acme.example/x?a=1&amp;b=2'>the report</a>",
            "the report <https://acme.example/x?a=1&b=2>",
        ),
        ("<a href='https://acme.example/'>acme.example</a>", "acme.example <https://acme.example/>"),
        ("<a href='https://acme.example'> https://acme.example</a>", "https://acme.example"),
        ("<a href='mailto:ada@acme.example'>ada@acme.example</a>", "ada@acme.example"),
        ("<a href='mailto:ada@acme.example'>Ada</a>", "Ada <mailto:ada@acme.example>"),
        ("<a href='#top'>up</a> <a href='javascript:x()'>run</a> <a>none</a>", "up run none"),
        ("<a href='https://acme.example'><img src=x alt='Logo'></a>", "Logo <https://acme.example>"),
        ("<a href='https://acme.example'><img src=x></a>", "<https://acme.example>"),
        ("<table><tr><th>Name<th>Price<tr><td>Tea<td>3 €</table>", "Name\tPrice\n\nTea\t3 €"),
        ("<p>one\n two&nbsp;  three</p><div>four<br>five</div>", "one two three\n\nfour\nfive"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("<ul><li>a<li>b</ul>", "a\n\nb"),
        ("a<style>b</style><script>c</script><!-- d --><title>e</title>f", "af"),
        ("<p>no end <b>of <i>anything", "no end of anything"),
        ("&lt;tag&gt; &unknown; &#8364;", "<tag> &unknown; €"),
        ("", ""),
    ],
)
def test_text_of_html(markup, text):
    assert text_of_html(markup) == text


@pytest.mark.parametrize(
    "markup",
    [
        "<div>" * 100_000 + "x",
        "<b><i>" * 20_000 + "x",
        "<table><tr><td>" * 50_000 + "x",
        "<a href=http://x>" * 50_000,
    ],
    ids=["div", "formatting", "tables", "links"],
)
def test_deep_markup_is_converted_quickly(markup):
    assert len(text_of_html(markup)) < 1_000
