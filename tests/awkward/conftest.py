"""
The servers that the collections are run on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.awkward.running import Stand, Stands, every_stand
from tests.servers import Servers


@pytest.fixture(scope="module")
def stands(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stands]:
    """
    The servers with their databases, each made when it is first asked for.
    """
    with every_stand(servers, tmp_path_factory.mktemp("awkward")) as stands:
        yield stands


@pytest.fixture
def stand(request: pytest.FixtureRequest, stands: Stands) -> Stand:
    """
    The server of one case.
    """
    return stands(request.param)
