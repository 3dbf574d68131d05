"""
One of a project's mappings by its name. Loads nothing: whoever names one has them already.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from migrate.errors import UnknownMapping

T = TypeVar("T")


def pick(mappings: Mapping[str, T], name: str) -> T:
    """
    The mapping of this name.

    Raises:
        UnknownMapping: There is none; says which there are.
    """
    if name in mappings:
        return mappings[name]
    known = sorted(mappings)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UnknownMapping(
        f"Unknown mapping '{name}'.{hint}",
        where={"known": ", ".join(known) or "none"},
        next_step="profile-migrate mapping lint",
    )
