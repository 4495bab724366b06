"""One page from a declared list of sections: its style, its data and one script inside, nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from segue.core.errors import SegueError
from segue.view.scripts import in_script, read_script, script_hash
from segue.view.words import dice

Facts = TypeVar("Facts")


@dataclass(frozen=True)
class Section(Generic[Facts]):
    """One part of the page; its template is ``<name>.html`` where it names no other."""

    name: str
    title: str
    content: Callable[[Facts], dict[str, Any]]
    shown_by: str | None = None
    applies: Callable[[Facts], bool] = lambda facts: True

    @property
    def template(self) -> str:
        return f"{self.shown_by or self.name}.html"


def render_page(
    context: Mapping[str, Any],
    sections: Sequence[Section[Facts]],
    facts: Facts,
    data: Mapping[str, Any],
    script_name: str = "report",
) -> str:
    """The page as HTML; what the sections show is escaped.

    Args:
        context: ``kicker``, ``title``, ``version``, ``finished`` and ``run`` of the frame.
        data: what the script draws from.
        script_name: the bundled script that does.
    """
    environment = Environment(
        loader=PackageLoader("segue.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dice"] = dice
    script, theme = read_script(script_name), read_script("theme")
    hashes = " ".join(script_hash(text) for text in (script, theme) if text)
    return environment.get_template("page.html").render(
        **context,
        sections=[_rendered(environment, section, facts) for section in sections if section.applies(facts)],
        data=in_script(data),
        script=script,
        theme=theme,
        # Beside its own script a page loads those that lie with it, wherever it lies; none from the network.
        script_source=f"{hashes} 'self' file:" if hashes else "'none'",
    )


def _rendered(environment: Environment, section: Section[Facts], facts: Facts) -> dict[str, Any]:
    template = environment.get_template(section.template)
    try:
        # "problem" is what a section says instead of its content; only those that have one set it.
        body = template.render({"problem": None, **section.content(facts)})
    except SegueError as error:
        body = environment.get_template("problem.html").render(problem=str(error))
    return {"name": section.name, "title": section.title, "body": body}


def data_uri(png: bytes) -> str:
    """The picture as an address that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
