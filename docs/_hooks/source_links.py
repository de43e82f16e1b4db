"""Turn links to source files into links to pages of the site, and check that what they name exists.

A page links to a file by its path from the page: ``[`seal_next`](../evermuse_outbox/delivery/sealing/seal.py)``.
Such a link works wherever the repository is browsed. In the site it leads to a generated page with the text of the
file, at the line where the function or class is defined. The build fails for a file or a name that does not exist.
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

logger = get_plugin_logger("source_links")

LINK = re.compile(r"\[(?P<text>[^\]\n]+)\]\((?P<path>(?:\.\./)+[\w/]+\.(?:py|lua))\)")
NAME = re.compile(r"`(?P<name>[\w.]+)(?:\(\))?`")
LANGUAGES = {".py": "python", ".lua": "lua"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add one page for each source file that a page of the documentation links to."""
    docs = Path(config.docs_dir)
    sources = {source for page in docs.rglob("*.md") for source in sources_of(page)}
    for source in sorted(sources):
        if source.is_file():
            files.append(File.generated(config, address_of(source, docs), content=page_of(source, docs)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Point each link to a source file at its generated page."""
    docs = Path(config.docs_dir)
    here = docs / page.file.src_uri

    def replaced(match: re.Match[str]) -> str:
        source = (here.parent / match["path"]).resolve()
        if not source.is_file():
            logger.warning("%s links to %s, which does not exist", page.file.src_uri, match["path"])
            return match["text"]
        target = os.path.relpath(docs / address_of(source, docs), here.parent)
        return f"[{match['text']}]({target}{anchor_of(match['text'], source, page.file.src_uri)})"

    return LINK.sub(replaced, markdown)


def on_page_content(html: str, page: Page, **_: Any) -> None:
    """Name the anchors of a generated page to MkDocs, which finds none in highlighted code."""
    if page.file.src_uri.startswith("source/"):
        page.present_anchor_ids.update(re.findall(r'(?:id|name)="(__codelineno-\d+-\d+)"', html))


def on_post_build(config: MkDocsConfig) -> None:
    """Take the generated pages out of the search: they would hide the pages that explain."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    content["docs"] = [entry for entry in content["docs"] if not entry["location"].startswith("source/")]
    index.write_text(json.dumps(content), encoding="utf-8")


def sources_of(page: Path) -> list[Path]:
    """Return the files outside the documentation that a page links to."""
    text = page.read_text(encoding="utf-8")
    return [(page.parent / match["path"]).resolve() for match in LINK.finditer(text)]


def address_of(source: Path, docs: Path) -> str:
    """Return the path of the generated page of a source file, inside the documentation."""
    return f"source/{source.relative_to(docs.parent).as_posix()}.md"


def page_of(source: Path, docs: Path) -> str:
    """Return the generated page of a source file."""
    title = source.relative_to(docs.parent).as_posix()
    code = source.read_text(encoding="utf-8").rstrip()
    return f'# `{title}`\n\n````{LANGUAGES[source.suffix]} linenums="1"\n{code}\n````\n'


def anchor_of(text: str, source: Path, page: str) -> str:
    """Return the anchor of the line that defines the name in the link's text; empty where it has no name."""
    match = NAME.search(text)
    if match is None or source.suffix != ".py":
        return ""
    lines = definitions_of(source)
    if match["name"] not in lines and is_package_name(match["name"], source):
        return ""
    if match["name"] not in lines:
        logger.warning("%s names %s, which %s does not define", page, match["name"], source.name)
        return ""
    return f"#__codelineno-0-{lines[match['name']]}"


def is_package_name(name: str, source: Path) -> bool:
    """Return whether the name is that of the package, such as ``delivery.gates``, and the source its ``__init__``."""
    return source.name == "__init__.py" and name.rsplit(".", 1)[-1] == source.parent.name


def definitions_of(source: Path) -> dict[str, int]:
    """Return the line of each function, class, method and constant: ``name`` and ``Class.name``."""
    lines: dict[str, int] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                lines[f"{prefix}{node.name}"] = node.lineno
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{node.name}.")
            elif isinstance(node, ast.Assign):
                targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
                lines.update({f"{prefix}{name}": node.lineno for name in targets})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                lines[f"{prefix}{node.target.id}"] = node.lineno

    visit(ast.parse(source.read_text(encoding="utf-8")).body, "")
    return lines
