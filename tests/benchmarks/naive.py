"""
Copies a table into Redis hashes as most people write it: SQLAlchemy's stream, redis-py's pipeline.

Run as a program: `naive.py <sql url> <redis url> <table>`. No versions, no checkpoints.
"""

from __future__ import annotations

import sys
from datetime import date, datetime
from typing import Any

import redis
from sqlalchemy import MetaData, Table, create_engine, select

BATCH = 1_000


def text(value: Any) -> Any:
    """
    What redis-py takes, in the form that our records have.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if isinstance(value, (str, int)) else str(value)


def copy(source: str, target: str, table: str) -> None:
    """
    Read all rows, and write a thousand at a time.
    """
    engine = create_engine(source)
    client = redis.Redis.from_url(target)
    rows = Table(table, MetaData(), autoload_with=engine)
    with engine.connect() as connection, client.pipeline(transaction=False) as pipeline:
        stream = connection.execution_options(yield_per=BATCH).execute(select(rows)).mappings()
        for row in stream:
            fields = {name: text(value) for name, value in row.items() if value is not None}
            pipeline.hset(f"profile:{row['id']}", mapping=fields)
            if len(pipeline) >= BATCH:
                pipeline.execute()
        pipeline.execute()
    client.close()
    engine.dispose()


if __name__ == "__main__":
    copy(*sys.argv[1:])
