"""
The servers that the collections are run on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.awkward.running import Stand
from tests.servers import Servers

Stands = Callable[[str], Stand]


@pytest.fixture(scope="module")
def stands(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stands]:
    """
    The servers with their databases, each made when it is first asked for.
    """
    with ExitStack() as stack:
        made: dict[str, Stand] = {}

        def stand(name: str) -> Stand:
            if name not in made:
                folder: Path = tmp_path_factory.mktemp("awkward")
                made[name] = Stand(name, servers, folder, stack)
            return made[name]

        yield stand


@pytest.fixture
def stand(request: pytest.FixtureRequest, stands: Stands) -> Stand:
    """
    The server of one case.
    """
    return stands(request.param)
