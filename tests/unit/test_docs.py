"""The pages say what the code says: settings and defaults, topics, event types, metrics, options, commands, links."""

import importlib
import re
from pathlib import Path

import msgspec
import pytest
import typer

from devstack.options import SERVICES
from solyx.cli.main import app
from solyx.events.catalog import EVENT_TYPES
from solyx.settings import Settings
from solyx.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "solyx" / "scenario" / "README.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("services/*/README.md"),
    ]
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_METRIC = re.compile(r"(Counter|Gauge|Histogram)\(\s*\"(solyx_\w+)\"")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def rows(page: str) -> dict[str, list[str]]:
    """First cell → cells of every table row that begins with a name in backticks."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[^`]+`", cells[0]):
            found[cells[0].strip("`")] = cells
    return found


def default_text(value: object) -> str:
    """A default as the page writes it."""
    if value == "":
        return "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def settings_of(service: str) -> type[Settings]:
    module = importlib.import_module(f"services.{service}.settings")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Settings) and value is not Settings
    )
    return found


def settings() -> dict[str, str]:
    """Environment variable → default, of every service."""
    shared = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    found = {f"SOLYX_{name.upper()}": default_text(default) for name, default in shared.items()}
    for service in SERVICES:
        for field in msgspec.structs.fields(settings_of(service)):
            if field.name not in shared:
                found[f"SOLYX_{service.upper()}_{field.name.upper()}"] = default_text(field.default)
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    page = (DOCS / "configuration.md").read_text().split("## Command line and client")[0]
    documented = {name: cells[1] for name, cells in rows(page).items() if name.startswith("SOLYX_")}
    assert documented == settings()


def test_every_setting_says_what_it_means() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert [name for name, cells in rows(page).items() if name.startswith("SOLYX_") and not cells[-1]] == []


def test_the_topic_catalogue_is_that_of_the_code() -> None:
    documented = rows((DOCS / "topics.md").read_text().split("## Event types")[0])
    for topic in TOPICS:
        days = topic.retention_ms / 86_400_000
        kept = "compacted" if topic.cleanup == "compact" else f"{days:g} day{'s' if days != 1 else ''}"
        assert documented.pop(topic.name)[1:5] == [topic.keyed_by, topic.ordered_by, str(topic.partitions), kept]
    assert documented == {}


def test_every_event_type_is_listed_under_its_topic() -> None:
    section = (DOCS / "topics.md").read_text().split("## Event types")[1].split("## What is in a record")[0]
    documented = {name: cells[1].strip("`") for name, cells in rows(section).items()}
    assert documented == {name: event.TOPIC for name, event in EVENT_TYPES.items()}


def test_every_metric_is_explained() -> None:
    page = (DOCS / "operations.md").read_text()
    missing: set[str] = set()
    for folder in ("solyx", "services"):
        for file in (ROOT / folder).rglob("*.py"):
            for kind, name in _METRIC.findall(file.read_text()):
                shown = f"{name}_total" if kind == "Counter" and not name.endswith("_total") else name
                if f"`{shown}" not in page:
                    missing.add(shown)
    assert missing == set()


def test_no_metric_is_explained_that_is_not_there() -> None:
    code = "".join(file.read_text() for folder in ("solyx", "services") for file in (ROOT / folder).rglob("*.py"))
    named = re.findall(r"`(solyx_\w+)", (DOCS / "operations.md").read_text())
    assert [name for name in named if f'"{name.removesuffix("_total")}' not in code] == []


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken: list[str] = []
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in heading_anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_option_that_a_page_names_exists() -> None:
    known = (ROOT / "devstack" / "options.py").read_text()
    for page in PAGES:
        for command in re.findall(r"\./run((?: [^`\n|#]*)?)", page.read_text()):
            for option in re.findall(r"--[a-z-]+", command):
                assert f'"{option}"' in known or option == "--help", (page.name, option)


def test_every_command_that_a_page_names_exists() -> None:
    known = set(vars(typer.main.get_command(app))["commands"])
    for page in PAGES:
        named = re.findall(r"(?:^\$ |`|^    )solyx ([a-z]\w*)", page.read_text(), re.MULTILINE)
        assert set(named) <= known, page.name
