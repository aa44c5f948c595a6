"""Render a template to one self-contained HTML file."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tbft import __version__
from tbft.errors import MissingExtraError, needs
from tbft.files import REPORT, atomic_path, check_writable
from tbft.report.drawing import png_uri
from tbft.report.words import DASH
from tbft.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, package: str = "tbft.report", **shown: Any) -> str:
    """Render a template from ``templates/``; all values are escaped.

    Args:
        package: the package whose templates take precedence.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    return _environment(package).get_template(template).render(tbft_version=__version__, **shown)


def check_extra() -> None:
    """Check that pages can be made, to fail before the work instead of after it.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    for module, package in (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise MissingExtraError(package, "report")


def write_page(html: str, path: str | Path) -> None:
    """Write a page, atomically."""
    check_writable(path, REPORT)
    with atomic_path(path, kind=REPORT) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _visible(value: Any) -> Any:
    return visible(value) if type(value) is str else value  # markup of our own is another type


@cache
def _environment(package: str) -> Environment:
    with needs("Jinja2", "report"):
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, "tbft.report"))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.globals["dash"] = DASH
    environment.filters["png_uri"] = png_uri
    return environment
