"""
The plugin that pytest loads by itself: two ways to name the configuration, and one fixture.

Whatever costs time to import is imported when a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.testing import AssertParity, ParityBroken, ParityUnproven

OPTION = "--profile-migrate-config"
INI = "profile_migrate_config"


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Where the configuration is, for all calls that do not say so themselves.
    """
    text = "configuration of profile-migrate; migrate.yaml in the root folder otherwise"
    parser.getgroup("profile-migrate").addoption(OPTION, metavar="FILE", help=text)
    parser.addini(INI, f"{text}; the option {OPTION} wins")


# The older form of a wrapper, which every pytest takes that may be installed beside this.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """
    Show where a test failed and why, but not its arguments: URLs with passwords are among them.
    """
    outcome = yield
    excinfo = call.excinfo
    if excinfo is not None and isinstance(excinfo.value, ParityBroken | ParityUnproven):
        report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
        if report.failed:
            report.longrepr = _shown(excinfo, item.path)


def _shown(excinfo: pytest.ExceptionInfo[BaseException], path: Path) -> Any:
    """
    The lines of the test's own file that led here, and the error; the error alone after a test.
    """
    if not any(entry.path == path for entry in excinfo.traceback):
        return excinfo.getrepr(style="value")
    return excinfo.getrepr(
        style="short", funcargs=False, tbfilter=lambda info: info.traceback.cut(path).filter(info)
    )


@pytest.fixture
def assert_parity(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AssertParity]:
    """
    Backfill a mapping from SQL into Redis and fail unless both hold the same.

    `assert_parity("user_profiles", source=URL, redis=URL)`; docs/ci.md of profile-migrate.
    """
    from migrate.testing.parity import Parity, Places  # noqa: PLC0415 - see the module's docstring

    config = request.config
    named = config.getoption(OPTION)
    places = Places(
        root=config.rootpath,
        option=config.invocation_params.dir / named if named else None,
        ini=config.getini(INI) or None,
    )
    parity = Parity(places, lambda: tmp_path_factory.mktemp("profile-migrate"))
    yield parity
    parity.close()
