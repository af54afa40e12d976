from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("[a-z]*/*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["threat-model.md", "reliability.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text()
    names = set(re.findall(r"(?:(?:unit|e2e)/(?:\w+/)*)?test_\w+\.py", text))
    known = {
        str(path.relative_to(REPOSITORY / "tests")) for path in REPOSITORY.glob("tests/**/*.py")
    }
    plain = {Path(name).name for name in known}
    assert names
    assert [name for name in names if name not in (known if "/" in name else plain)] == []
