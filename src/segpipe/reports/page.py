"""Fills the HTML templates of this package: single files that need no network, with their style and script in them."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from segpipe.files import whole_file
from segpipe.reports.figures import give_color, give_digits, give_percent, give_points

SCRIPT = "viewer.js.j2"


def write_page(path: Path, template: str, **values: object) -> None:
    """Writes an HTML page that needs no network and no other file.

    The page forbids the browser to fetch anything, and to run any script but ours: its Content-Security-Policy names
    the sha256 of our script, so text that got past the escaping could not run.

    Args:
        path: the page to write.
        template: file name in `templates/`.
        values: the template's variables; every value is escaped.
    """
    page = fill_page(template, SCRIPT, **values)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def fill_page(template: str, script: str, **values: object) -> str:
    """Gives the text of a page with its script.

    Args:
        template: file name in `templates/`, of a page.
        script: the same of its script, the only one that the page's policy lets run.
        values: the template's variables; every value is escaped.
    """
    text = fill(script)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return fill(template, script=Markup(text), script_sha256=digest, **values)


def fill(template: str, **values: object) -> str:
    """Gives the text of a template in `templates/` with its variables; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("segpipe.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    filters = {"percent": give_percent, "points": give_points, "digits": give_digits, "rgb": give_color}
    environment.filters |= filters
    return environment.get_template(template).render(values)
