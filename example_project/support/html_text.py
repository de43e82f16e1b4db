"""Convert the HTML of a mail to text. Links keep their targets, and the cells of a table are separated."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

DEPTH = 2_000  # open elements; the parser needs quadratic time for far more, and no program writes so many
URL_LENGTH = 2_000  # characters; a longer target is data, such as a picture in the address itself

HIDDEN = {"script", "style", "title", "template", "head"}
BLOCKS = {
    "br",
    "p",
    "div",
    "li",
    "tr",
    "table",
    "ul",
    "ol",
    "blockquote",
    "pre",
    "hr",
    "section",
    "article",
    "dt",
    "dd",
}
BLOCKS |= {"article", "header", "footer", "address", "center", "caption", "form"} | {
    f"h{level}" for level in range(1, 7)
}
CELLS = {"td", "th"}
# Elements that HTML closes by itself: many of them do not mean that they are nested.
UNNESTED = {
    "p",
    "li",
    "td",
    "th",
    "tr",
    "br",
    "img",
    "hr",
    "input",
    "meta",
    "link",
    "dt",
    "dd",
    "option",
    "col",
    "base",
}

_TAG = re.compile(r"<[^<>]*>?")
_TAG_NAME = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_SPACES = re.compile(r"[ \t\r\n\f\v\xa0]+")
_LINE_SPACES = re.compile(r"[ \f\v\xa0]+")
_CELL_SPACES = re.compile(r" ?\t[ \t]*")
_EMPTY_LINES = re.compile(r"\n[ \t\n]*\n")
_NO_TARGETS = ("#", "javascript:", "cid:", "data:", "vbscript:")  # places in the mail, programs, and data
_HELD_SPACE = "\x1f"  # stands for a space in <pre> until the other spaces are collapsed


def text_of_html(markup: str) -> str:
    """Return the visible text of an HTML page, also if its markup is broken."""
    if _is_too_deep(markup):
        return _tidy(_TAG.sub(" ", markup))
    pieces: list[str] = []
    links: list[tuple[str, int]] = []  # target, and number of pieces at its start
    root = LexborHTMLParser(markup.replace("\0", "\ufffd").replace(_HELD_SPACE, " ")).root
    node, preformatted = root, 0
    while node is not None:
        preformatted += node.tag == "pre"
        _enter(node, pieces, links, preformatted > 0)
        child = node.child if node.tag not in HIDDEN else None
        while child is None and node is not None:
            _leave(node, pieces, links)
            preformatted -= node.tag == "pre"
            child = node.next if node is not root else None
            node = node.parent if child is None else node
            if node is None or (child is None and node is root):
                node = None
        node = child
    return _tidy("".join(pieces))


def _is_too_deep(markup: str) -> bool:
    depth = deepest = 0
    for slash, name in _TAG_NAME.findall(markup):
        if name.lower() not in UNNESTED:
            depth = max(0, depth + (-1 if slash else 1))
            deepest = max(deepest, depth)
    return deepest > DEPTH


def _enter(node: LexborNode, pieces: list[str], links: list[tuple[str, int]], is_preformatted: bool) -> None:
    tag = node.tag
    if tag == "-text":
        text = node.text_content or ""
        pieces.append(text.replace(" ", _HELD_SPACE) if is_preformatted else _SPACES.sub(" ", text))
    elif tag in BLOCKS:
        pieces.append("\n")
    elif tag == "a":
        links.append((_target(node), len(pieces)))
    elif tag == "img" and links:
        pieces.append(node.attributes.get("alt") or "")


def _leave(node: LexborNode, pieces: list[str], links: list[tuple[str, int]]) -> None:
    tag = node.tag
    if tag in BLOCKS and tag != "br":
        pieces.append("\n")
    elif tag in CELLS:
        pieces.append("\t")
    elif tag == "a" and links:
        target, start = links.pop()
        text = _SPACES.sub(" ", "".join(pieces[start:])).strip()
        if target and not _is_shown(target, text):
            pieces.append(f" <{target}>" if text else f"<{target}>")


def _target(node: LexborNode) -> str:
    target = _SPACES.sub("", node.attributes.get("href") or "")
    return "" if len(target) > URL_LENGTH or target.lower().startswith(_NO_TARGETS) else target


def _is_shown(target: str, text: str) -> bool:
    """Return whether the text of a link shows its target already."""
    return target in text or re.sub("^(mailto|tel):", "", target.lower()) == text.lower()


def _tidy(text: str) -> str:
    lines = (_CELL_SPACES.sub("\t", _LINE_SPACES.sub(" ", line)).strip(" \t") for line in text.split("\n"))
    lines = (line.replace(_HELD_SPACE, " ").rstrip(" ") for line in lines)
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n ")
