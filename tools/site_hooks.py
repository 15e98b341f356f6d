"""What mkdocs does not do by itself: pages from other folders and from the code, links as the repository writes them.

The documents are written for a reader of the repository: they name each other by path, `docs/registry.md`. In the site
such a name becomes a link with the page's title. A link to a file that is no page becomes plain text. The name of a
document that does not exist is a warning.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from reference.commands import describe_commands
from reference.parameters import describe_parameters

LOG = get_plugin_logger(__name__)  # mkdocs counts its warnings: with --strict one ends the build
ROOT = Path(__file__).parents[1]
ELSEWHERE = {  # by path in the repository: documents outside docs/, and their place in the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "mlflow/README.md": "team-server.md",
}
NAME = r"(?:[\w-]+/)*[\w-]+\.md(?:\#[\w-]+)?"
TOKENS = re.compile(
    rf"""(?P<fence>^\ *```.*?^\ *```)|(?P<indented>^\ {{4}}.*?$)
    |`(?P<quoted>{NAME})`|(?P<code>`(?:[^`\n]|\n(?!\n))*`)
    |(?P<image>!)?\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)
    |(?<![\w/.<-])(?P<mention>{NAME})""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in docs/."""
    for source, place in ELSEWHERE.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for place, text in _generated_pages():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links of the paths in a page's text."""
    place = page.file.src_uri
    source = next((one for one, other in ELSEWHERE.items() if other == place), f"docs/{place}")
    return TOKENS.sub(lambda token: _link(token, source, place, files), markdown)


def _generated_pages() -> Iterator[tuple[str, str]]:
    """Gives the place in the site and the text of each page that is made from others, or from the code."""
    from segpipe.cli import _parser

    schema = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
    yield "reference/parameters.md", describe_parameters(schema)
    yield "reference/commands.md", describe_commands(_parser())
    lines = ["# Decisions", "", "Each with its context, its reasons and its price.", ""]
    lines += [f"- [{_title_of(one)}]({one.name})" for one in sorted((ROOT / "docs/decisions").glob("0*.md"))]
    yield "decisions/index.md", "\n".join(lines)


def _link(token: re.Match[str], source: str, place: str, files: Files) -> str:
    """Gives what stands in the site for one piece of a page.

    Args:
        token: a match of `TOKENS`.
        source: path of the page in the repository.
        place: its place in the site.
        files: of the site.
    """
    target = token["target"] or token["mention"] or token["quoted"]
    if not target or re.match(r"\w+:|#", target):
        return token[0]
    path, _, anchor = target.partition("#")
    folders = [posixpath.dirname(source)] if token["target"] else ["", "docs", posixpath.dirname(source)]
    for folder in folders:
        there = posixpath.normpath(posixpath.join(folder, path))
        inside = there.removeprefix("docs/") if there.startswith("docs/") else ""
        wanted = (ELSEWHERE.get(there, inside), f"{inside}/index.md")
        known = next((one for one in wanted if one and files.get_file_from_path(one)), None)
        if known:
            address = posixpath.relpath(known, posixpath.dirname(place) or ".") + (f"#{anchor}" if anchor else "")
            text = token["text"]
            if text is None or re.fullmatch(NAME, text):
                text = _title_of(ROOT / there)
            return f"{token['image'] or ''}[{text}]({address})"
    is_there = any((ROOT / folder / path).exists() for folder in folders)
    if token["mention"] and not is_there:
        LOG.warning("%s names %s, which does not exist", source, target)
    return token["text"] if token["target"] and is_there else token[0]  # mkdocs warns about links itself


def _title_of(document: Path) -> str:
    """Gives the first heading of a document."""
    return document.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
