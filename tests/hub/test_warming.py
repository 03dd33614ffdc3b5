"""What a hub does once after its start: the first visitors of its pages do not wait for it."""

import gc
from pathlib import Path

import pytest
from sqlalchemy import text

from lmcommons.hub.app import create_app
from lmcommons.hub.settings import Settings
from lmcommons.hub.web import rendering, warming
from lmcommons.hub.web.warming import warm
from lmcommons.hub.words import LANGUAGES


def test_templates_are_compiled_before_anybody_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings.make(tmp_path / "hub"))
    warm(app)
    frozen = gc.get_freeze_count()  # what a search for garbage leaves out while somebody waits for a page
    gc.unfreeze()
    assert [record for record in caplog.records if record.name == warming.__name__] == []
    assert frozen > 100_000
    for language in LANGUAGES:
        environment = rendering._environment(language)
        assert environment.cache is not None
        assert len(environment.cache) == len(environment.list_templates())
    app.state.hub.close()


def test_a_hub_whose_pages_fail_says_so_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings.make(tmp_path / "hub"))
    with app.state.hub.database.write() as session:
        session.execute(text("DROP TABLE events"))
    warm(app)
    assert "the pages are not warm" in caplog.text
    app.state.hub.close()
