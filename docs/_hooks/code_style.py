"""Write the style sheet of highlighted code from Pygments."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pygments.formatters import HtmlFormatter


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add ``assets/code.css`` to the site."""
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    files.append(File.generated(config, "assets/code.css", content=style))
    return files
