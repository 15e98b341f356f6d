"""Fills the HTML templates of this package."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from segpipe.files import whole_file


def write_page(path: Path, template: str, **values: object) -> None:
    """Writes an HTML page that needs no network: its style is in it, its pictures lie next to it.

    Args:
        path: the page to write.
        template: file name in `templates/`.
        values: the template's variables; every value is escaped.
    """
    environment = Environment(
        loader=PackageLoader("segpipe.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    with whole_file(path) as temporary:
        temporary.write_text(environment.get_template(template).render(values), encoding="utf-8")
