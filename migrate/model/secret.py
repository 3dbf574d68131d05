"""
A secret that does not show itself, and the filter that keeps known secrets out of any text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

MASK = "***"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """
    Holds a password; only `reveal` hands it out.
    """

    _value: str

    def reveal(self) -> str:
        """
        The secret itself, for a driver and for nothing else.
        """
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, repr=False)
class Redactor:
    """
    Replaces every known secret, as it stands and URL-encoded, in texts for people and files.

    The second line of defence: texts are composed without secrets in the first place.
    """

    _forms: tuple[str, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[Secret]) -> Redactor:
        """
        A filter for these secrets; longer ones first, so that no tail of one is left.
        """
        forms: set[str] = set()
        for secret in secrets:
            value = secret.reveal()
            forms |= {value, quote(value, safe=""), quote(value), quote_plus(value)}
            forms.add(repr(value)[1:-1])
        return cls(tuple(sorted((f for f in forms if f), key=len, reverse=True)))

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"
