"""
One module a dialect: how it connects, what its catalogue says, how it spells keys and cells.
"""

from __future__ import annotations

from collections.abc import Mapping

from migrate.source.dialects.base import Dialect
from migrate.source.dialects.mysql import MySQL
from migrate.source.dialects.postgresql import PostgreSQL
from migrate.source.dialects.sqlite import SQLite

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (PostgreSQL(), SQLite(), MySQL("mysql"), MySQL("mariadb"))
}
"""By the name that a source's URL begins with."""
