"""
Every error that a person can act on, each with a stable code and an exit code.

Says what went wrong, where, and what to do next; it never holds a row's value or a secret.

    MigrateError
    ├── InvalidInput          2  files, flags, mappings that do not fit the schema
    │   ├── InvalidFiles
    │   ├── SchemaMismatch
    │   ├── UnknownMapping
    │   └── UsageProblem
    ├── AccessDenied          2  wrong password, TLS, missing permission
    │   ├── SourceAccessDenied
    │   ├── TargetAccessDenied
    │   └── LedgerAccessDenied
    ├── Refused               4  a gate or a check says no
    │   ├── ChecksFailed
    │   ├── MappingChanged
    │   ├── TargetChanged
    │   ├── TargetTaken
    │   └── UnsafeTarget
    ├── Incomplete            5  the same command continues
    │   ├── TargetNotWritable
    │   ├── TargetLostData
    │   ├── SourceLimit
    │   ├── SchemaDrift
    │   ├── CaptureChanged
    │   └── LedgerFull
    ├── Unreachable           6  a store cannot be reached
    │   ├── SourceUnavailable
    │   ├── TargetUnavailable
    │   └── LedgerUnavailable
    ├── Locked                7  another run holds the mapping
    │   ├── LockHeld
    │   └── Fenced
    ├── Ambiguous             8  a person must look
    │   ├── SplitBrain
    │   └── LedgerDamaged
    ├── Stopped             130  interrupted (143: terminated); the same command continues
    ├── WorkerDied            5  a worker process ended without a word
    ├── OutputFailed          1  the result could not be printed
    └── Unexpected            1  a bug in this program
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """
    The exit codes of every command: a public contract (docs/errors.md).
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    DIFFERENCES = 3
    REFUSED = 4
    INCOMPLETE = 5
    UNREACHABLE = 6
    LOCKED = 7
    AMBIGUOUS = 8
    INTERRUPTED = 130
    TERMINATED = 143


class MigrateError(Exception):
    """
    Something went wrong that a person can act on.

    Args:
        what: One sentence without stack-trace words.

        where: Names and values that locate it, in reading order.

        next_step: The command to run or the thing to change.
    """

    code: ClassVar[str] = "migrate-error"
    exit_code: int = ExitCode.FAILED

    def __init__(
        self, what: str, *, where: Mapping[str, object] | None = None, next_step: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = dict(where or {})
        self.next_step = next_step

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (workers): keep the parts, not the constructor's arguments.
        return (_restore, (type(self), self.args, self.__dict__))


def _restore(
    kind: type[MigrateError], args: tuple[object, ...], state: dict[str, object]
) -> MigrateError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One thing that is wrong in a file.

    Args:
        file: Path as the user named it.

        line: From 1; 0 where the file as a whole is meant.

        column: From 1; 0 where the file as a whole is meant.

        rule: Stable kebab-case name of the rule that was broken.

        message: What is wrong, without secrets.

        fix: What to write instead.
    """

    file: str
    line: int
    column: int
    rule: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{at}: [{self.rule}] {self.message}" + (f" {self.fix}" if self.fix else "")


class InvalidInput(MigrateError):
    """
    What the user gave cannot be used as it stands.
    """

    code = "invalid-input"
    exit_code = ExitCode.USAGE


class InvalidFiles(InvalidInput):
    """
    Configuration or mapping files are wrong; carries every problem at once.
    """

    code = "invalid-file"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''} in the configuration or mapping files.",
            where={"files": ", ".join(sorted({p.file for p in self.problems}))},
            next_step="Correct the lines above, then run: profile-migrate mapping lint",
        )


class SchemaMismatch(InvalidFiles):
    """
    A mapping does not fit the live schema of its source.
    """

    code = "schema-mismatch"


class UnknownMapping(InvalidInput):
    """
    No mapping of that name exists.
    """

    code = "unknown-mapping"


class UsageProblem(InvalidInput):
    """
    Flags, variables or files that do not go together.
    """

    code = "usage"


class AccessDenied(MigrateError):
    """
    A store refused who we are or what we may do.
    """

    code = "access-denied"
    exit_code = ExitCode.USAGE


class SourceAccessDenied(AccessDenied):
    """
    The source refused the login, the certificate or the statement.
    """

    code = "source-access"


class TargetAccessDenied(AccessDenied):
    """
    Redis refused the login, the certificate or the command.
    """

    code = "target-access"


class LedgerAccessDenied(AccessDenied):
    """
    The ledger cannot be opened or written by this user.
    """

    code = "ledger-access"


class Refused(MigrateError):
    """
    A check says no; nothing was written.
    """

    code = "refused"
    exit_code = ExitCode.REFUSED


class ChecksFailed(Refused):
    """
    At least one check of doctor failed.
    """

    code = "checks-failed"


class MappingChanged(Refused):
    """
    The mapping, or the schema under it, is not the one that wrote the records.
    """

    code = "mapping-changed"


class TargetChanged(Refused):
    """
    The target is not the server that the ledger knows.
    """

    code = "target-changed"


class TargetTaken(Refused):
    """
    The target holds the fence of another migration of the same name.
    """

    code = "target-taken"


class UnsafeTarget(Refused):
    """
    The target would lose what is written to it, for example by eviction.
    """

    code = "unsafe-target"


class Incomplete(MigrateError):
    """
    The work is not done; everything so far is kept and the same command continues.
    """

    code = "incomplete"
    exit_code = ExitCode.INCOMPLETE


class TargetNotWritable(Incomplete):
    """
    Redis answers but takes no writes: OOM, READONLY, MISCONF, NOREPLICAS.
    """

    code = "target-not-writable"


class TargetLostData(Incomplete):
    """
    The fence is gone while a run was going on: Redis lost data or was replaced.
    """

    code = "target-lost-data"


class ReadTooLongAgo(Incomplete):
    """
    Rows of a mapping with a time to live were read so long ago that their records may have expired.
    """

    code = "read-too-long-ago"


class SourceLimit(Incomplete):
    """
    The source ended a statement by a limit of its own.
    """

    code = "source-limit"


class SchemaDrift(Incomplete):
    """
    The source's table changed while a run was going on.
    """

    code = "schema-drift"


class CaptureChanged(Incomplete):
    """
    Capture was installed or removed while a run was going on, so that versions do not fit.
    """

    code = "capture-changed"


class LedgerFull(Incomplete):
    """
    The ledger cannot take another row; nothing is acknowledged that it does not hold.
    """

    code = "ledger-full"


class WorkerDied(Incomplete):
    """
    A worker process ended without saying why.
    """

    code = "worker-died"


class Unreachable(MigrateError):
    """
    A store did not answer for as long as we may wait.
    """

    code = "unreachable"
    exit_code = ExitCode.UNREACHABLE


class SourceUnavailable(Unreachable):
    """
    The SQL source did not answer. Safe to repeat.
    """

    code = "source-unavailable"


class TargetUnavailable(Unreachable):
    """
    Redis did not answer. Safe to repeat.
    """

    code = "target-unavailable"


class LedgerUnavailable(Unreachable):
    """
    The ledger did not answer. Safe to repeat.
    """

    code = "ledger-unavailable"


class Locked(MigrateError):
    """
    Another run holds the mapping.
    """

    code = "locked"
    exit_code = ExitCode.LOCKED


class LockHeld(Locked):
    """
    Another process works on this mapping; says who.
    """

    code = "lock-held"


class Fenced(Locked):
    """
    A newer run took over; this one wrote nothing more.
    """

    code = "fenced"


class Ambiguous(MigrateError):
    """
    Two truths are possible; a person must look before anything is written.
    """

    code = "ambiguous"
    exit_code = ExitCode.AMBIGUOUS


class SplitBrain(Ambiguous):
    """
    Redis holds versions that SQL never gave out.
    """

    code = "split-brain"


class LedgerDamaged(Ambiguous):
    """
    The ledger is not a ledger, or not one that this version can read.
    """

    code = "ledger-damaged"


class Stopped(MigrateError):
    """
    A signal asked the run to stop; the batch at hand was finished and saved.
    """

    code = "stopped"
    exit_code = ExitCode.INTERRUPTED


class OutputFailed(MigrateError):
    """
    Standard output could not take the result; the work itself is done.
    """

    code = "output-failed"


class Unexpected(MigrateError):
    """
    A bug in this program; the trace is in the named file.
    """

    code = "unexpected"
