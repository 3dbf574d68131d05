"""
The command line: exit codes, streams, errors as text and JSON, signals, and what help may import.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from migrate import __version__
from migrate.cli import faults
from migrate.cli.context import AppContext, pass_app
from migrate.cli.lazy import LazyCommand
from migrate.cli.main import COMMANDS, Program, cli
from migrate.cli.options import Command, dry_run_option, json_option, shared_options, yes_option
from migrate.errors import ExitCode, InvalidFiles, LockHeld, MigrateError, Problem, Stopped
from tests.servers import RedisServer

ROOT = Path(__file__).resolve().parent.parent
CANARY = "PII-CANARY-7f3a"
DRIVERS = {"sqlalchemy", "redis", "pydantic", "ruamel", "tqdm", "psycopg", "tenacity"}
START_S = 30.0

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Every test runs in a folder of its own, with no settings in the environment.
    """
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PROFILE_MIGRATE_") and "TEST" not in name:
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """
    Runs a command line in this process.
    """

    def run(*words: str, program: click.Command = cli) -> Result:
        return CliRunner().invoke(program, list(words))

    return run


def program_with(work: Callable[[AppContext], object]) -> Program:
    """
    A program whose only command, `work`, does this.
    """
    program = Program(name="profile-migrate", params=shared_options())

    @program.command(cls=Command)
    @json_option
    @dry_run_option
    @yes_option
    @pass_app
    def work_(app: AppContext, dry_run: bool, yes: bool) -> object:
        return work(app)

    program.add_command(work_, "work")
    return program


def raising(error: BaseException) -> Program:
    """
    A program whose command fails.
    """

    def work(app: AppContext) -> None:
        raise error

    return program_with(work)


def python(script: str, **options: object) -> subprocess.Popen[str]:
    """
    A Python process that runs a script with this project on its path.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, text=True, env=env, **pipes)  # type: ignore[call-overload,no-any-return]


# Help


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], ["completion", "--help"]])
def test_help_imports_no_driver(words: list[str]) -> None:
    """
    Help and version answer at once: they load no driver, no parser of files and no command.
    """
    script = (
        "import sys\n"
        "from migrate.cli.main import cli\n"
        f"code = cli.main({words}, standalone_mode=False)\n"
        "print(code, *sorted(sys.modules))"
    )

    with python(script) as process:
        stdout, stderr = process.communicate(timeout=START_S)

    code, *modules = stdout.splitlines()[-1].split()
    commands = {entry.target.partition(":")[0] for entry in COMMANDS.values()}
    assert (code, stderr) == ("0", "")
    assert DRIVERS & {name.partition(".")[0] for name in modules} == set()
    assert commands & set(modules) <= {"migrate.cli.completion"}


def test_the_module_is_the_program() -> None:
    """
    `python -m migrate` is the installed command, whatever the interpreter calls it.
    """
    command = [sys.executable, "-m", "migrate", "--version"]
    found = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=START_S
    )

    assert (found.stdout, found.stderr) == (f"profile-migrate {__version__}\n", "")


def test_every_line_of_the_table_is_a_command() -> None:
    """
    Each target can be imported, and help says the same of it before and after.
    """
    assert list(cli.commands) == list(COMMANDS)
    for name, lazy in cli.commands.items():
        assert isinstance(lazy, LazyCommand)
        assert lazy.load().name == name


def test_help_shows_commands_in_the_order_of_the_table(run: Run) -> None:
    """
    The life of a migration, not the alphabet.
    """
    listed = run("--help").stdout.split("Commands:\n")[1]

    assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)


def test_no_command_is_a_usage_error_with_help(run: Run) -> None:
    """
    The bare program shows its help on standard error.
    """
    found = run()

    assert (found.exit_code, found.stdout) == (ExitCode.USAGE, "")
    assert found.stderr.startswith("Usage: profile-migrate [OPTIONS] COMMAND")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_program(run: Run, shell: str) -> None:
    """
    The script of each shell is printed whole, without that shell being installed.
    """
    found = run("completion", shell)

    assert (found.exit_code, found.stderr) == (0, "")
    assert "_PROFILE_MIGRATE_COMPLETE" in found.stdout


def test_completion_answers_without_importing_commands() -> None:
    """
    A shell that asks for the commands waits for no driver.
    """
    script = (
        "import os, sys\n"
        "os.environ.update(_PROFILE_MIGRATE_COMPLETE='bash_complete',\n"
        "    COMP_WORDS='profile-migrate ma', COMP_CWORD='1')\n"
        "from migrate.cli.main import cli\n"
        "cli.main([], standalone_mode=False)\n"
        "print('pydantic' in sys.modules)"
    )

    with python(script) as process:
        stdout, _ = process.communicate(timeout=START_S)

    assert stdout.splitlines() == ["plain,mapping", "False"]


# Errors


def test_an_error_says_what_where_and_next(run: Run) -> None:
    """
    The form is the same everywhere; standard output stays empty.
    """
    error = LockHeld(
        "Another process works on 'users'.",
        where={"mapping": "users", "host": "db 7", "pid": 4711},
        next_step="Wait for it.\nOr stop it.",
    )

    found = run("work", program=raising(error))

    assert found.exit_code == ExitCode.LOCKED
    assert found.stdout == ""
    assert found.stderr == (
        "error[lock-held]: Another process works on 'users'.\n"
        '  where: mapping=users host="db 7" pid=4711\n'
        "  next:  Wait for it.\n"
        "         Or stop it.\n"
    )


def test_problems_of_files_come_first(run: Run) -> None:
    """
    Each problem is a line that editors understand; the summary is last.
    """
    error = InvalidFiles(
        [
            Problem("b.yaml", 0, 0, "file-empty", "The file is empty.", "Write it."),
            Problem("a.yaml", 3, 7, "unknown-key", "Unknown key 'feilds'.", "Write 'fields'."),
        ]
    )

    found = run("work", program=raising(error))

    assert (found.exit_code, found.stdout) == (ExitCode.USAGE, "")
    assert found.stderr == (
        "a.yaml:3:7: [unknown-key] Unknown key 'feilds'. Write 'fields'.\n"
        "b.yaml: [file-empty] The file is empty. Write it.\n"
        "error[invalid-file]: 2 problems in the configuration or mapping files.\n"
        '  where: files="a.yaml, b.yaml"\n'
        "  next:  Correct the lines above, then run: profile-migrate mapping lint\n"
    )


def test_an_error_as_json_is_one_object_on_stderr(run: Run) -> None:
    """
    With --json the same error is data; standard output stays empty for results.
    """
    error = InvalidFiles([Problem("a.yaml", 3, 7, "unknown-key", "Unknown key.", "Write it.")])

    found = run("work", "--json", program=raising(error))

    assert (found.exit_code, found.stdout) == (ExitCode.USAGE, "")
    assert json.loads(found.stderr) == {
        "schema": "profile-migrate.error/1",
        "code": "invalid-file",
        "exit_code": 2,
        "what": "1 problem in the configuration or mapping files.",
        "where": {"files": "a.yaml"},
        "next": "Correct the lines above, then run: profile-migrate mapping lint",
        "problems": [
            {
                "file": "a.yaml",
                "line": 3,
                "column": 7,
                "rule": "unknown-key",
                "message": "Unknown key.",
                "fix": "Write it.",
            }
        ],
    }


@pytest.mark.parametrize("code", list(ExitCode))
def test_the_exit_code_is_the_errors(run: Run, code: ExitCode) -> None:
    """
    What the error says is what the shell sees.
    """
    error = MigrateError("No.")
    error.exit_code = code

    assert run("work", program=raising(error)).exit_code == code


def test_a_command_may_end_with_differences(run: Run) -> None:
    """
    What a command returns is its exit code; nothing is 0.
    """
    left = program_with(lambda app: ExitCode.DIFFERENCES)
    done = program_with(lambda app: None)

    assert [run("work", program=one).exit_code for one in (left, done)] == [3, 0]


def test_an_error_cannot_drive_the_terminal(run: Run) -> None:
    """
    Escapes and line ends in names from files or servers are shown, not obeyed.
    """
    error = MigrateError("a\x1b[2Jb", where={"key": "c\nerror[x]: d"}, next_step="e\u202ef")

    found = run("work", program=raising(error))

    assert found.stderr == (
        'error[migrate-error]: a\\x1b[2Jb\n  where: key="c\\nerror[x]: d"\n  next:  e\\u202ef\n'
    )


@pytest.mark.parametrize(
    ("words", "what", "at"),
    [
        (["mappin"], "No such command 'mappin'. Did you mean 'mapping'?", ""),
        (["mapping", "lnt"], "No such command 'lnt'. Did you mean 'lint'?", " mapping"),
        (["--confg", "x"], "No such option '--confg'. Did you mean '--config'?", ""),
        (
            ["mapping", "lint", "--pth"],
            "No such option '--pth'. Did you mean '--path'?",
            " mapping lint",
        ),
    ],
)
def test_a_wrong_word_gets_the_nearest_one(run: Run, words: list[str], what: str, at: str) -> None:
    """
    Unknown commands and options are usage errors in the form of all others.
    """
    found = run(*words)

    assert (found.exit_code, found.stdout) == (ExitCode.USAGE, "")
    assert found.stderr == (
        f"error[usage]: {what}\n"
        f"  where: command={f'profile-migrate{at}' if not at else quoted(at)}\n"
        f"  next:  profile-migrate{at} --help\n"
    )


def quoted(at: str) -> str:
    return f'"profile-migrate{at}"'


@pytest.mark.parametrize("words", [["map", "lint"], ["mapping", "lint", "--pat", "x"], ["--conf"]])
def test_abbreviations_are_refused(run: Run, words: list[str]) -> None:
    """
    A shortened word would change its meaning with the next command that is added.
    """
    assert run(*words).exit_code == ExitCode.USAGE


def test_a_bug_leaves_a_trace_without_values(run: Run, folder: Path) -> None:
    """
    The screen names the class and the file; the file has the lines, is private, and has no value.
    """
    secret = f"{CANARY} postgresql://app:S3cret@db/x"

    def work(app: AppContext) -> None:
        try:
            int(secret)
        except ValueError as exc:
            raise KeyError(secret) from exc

    found = run("work", program=program_with(work))

    (path,) = (folder / faults.TRACES).iterdir()
    trace = path.read_text()
    assert (found.exit_code, found.stdout) == (ExitCode.FAILED, "")
    assert found.stderr == (
        "error[unexpected]: This is a bug in profile-migrate: KeyError.\n"
        f"  where: trace={path.relative_to(folder)}\n"
        "  next:  Report it with the trace file, which holds no values and no secrets.\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "int(secret)" in trace
    assert [line for line in trace.splitlines() if not line.startswith(" ")][1:] == [
        "builtins.ValueError",
        "which led to",
        "builtins.KeyError",
    ]
    assert CANARY not in trace + found.stderr
    assert "S3cret" not in trace + found.stderr


def test_a_bug_in_a_folder_that_takes_no_file_is_still_told(run: Run, folder: Path) -> None:
    """
    When the trace cannot be kept, the error says so.
    """
    (folder / faults.TRACES).write_text("in the way")

    found = run("work", program=raising(ValueError(CANARY)))

    assert found.exit_code == ExitCode.FAILED
    assert 'trace="none: the folder cannot be written"' in found.stderr
    assert CANARY not in found.stderr


def test_secrets_of_the_settings_never_appear(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A password that some text holds after all is masked in results, messages and errors.
    """
    monkeypatch.setenv("REDIS_PASSWORD", "S3cr t")
    (folder / "migrate.yaml").write_text(
        'version: 1\nsource: {url: "sqlite:///x.db"}\n'
        'redis: {target: {url: "redis://127.0.0.1:6379/0", password: "${env:REDIS_PASSWORD}"}}\n'
    )

    def work(app: AppContext) -> None:
        assert app.settings.secrets
        app.say("said S3cr t")
        app.warn("warned S3cr%20t")
        app.emit({"text": ["S3cr t"]}, "human S3cr t")
        raise MigrateError("what S3cr t", where={"url": "S3cr+t"}, next_step="S3cr t")

    for words in (["work"], ["work", "--json"], ["-v", "work"]):
        found = run(*words, program=program_with(work))

        assert found.exit_code == ExitCode.FAILED
        assert "S3cr" not in found.output
        assert found.output.count("***") == 6


# Results


def test_a_result_is_json_or_text(run: Run) -> None:
    """
    The result is on standard output; the next command is the last line for people only.
    """

    def work(app: AppContext) -> None:
        app.emit({"rows": 3, "path": Path("x")}, "3 rows")
        app.next_step("profile-migrate status")

    text = run("work", program=program_with(work))
    data = run("work", "--json", program=program_with(work))
    quiet = run("-q", "work", program=program_with(work))

    assert (text.stdout, text.stderr) == ("3 rows\n", "next: profile-migrate status\n")
    assert json.loads(data.stdout) == {"schema": "profile-migrate.work/1", "rows": 3, "path": "x"}
    assert data.stderr == ""
    assert (quiet.stdout, quiet.stderr) == ("3 rows\n", "")


@pytest.mark.parametrize(
    "words", [["-q", "--color", "never", "work"], ["work", "-q", "--color", "never"]]
)
def test_shared_options_stand_before_or_after_the_command(run: Run, words: list[str]) -> None:
    """
    The options of the program mean the same on both sides of a command's name.
    """
    seen = []

    run(*words, program=program_with(lambda app: seen.append((app.quiet, app.color))))

    assert seen == [(True, "never")]


def test_an_option_that_is_not_given_undoes_nothing(run: Run) -> None:
    """
    The default on one side of the command's name does not hide the option on the other.
    """
    seen = []

    run("-vv", "work", "--no-input", program=program_with(lambda app: seen.append(vars(app))))

    assert (seen[0]["verbosity"], seen[0]["no_input"]) == (2, True)


@pytest.mark.parametrize(
    ("flag", "environment", "painted"),
    [
        ("auto", {}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
    ],
)
def test_colour_is_for_terminals_and_those_who_ask(
    flag: str, environment: dict[str, str], painted: bool
) -> None:
    """
    Without a terminal there is colour only if it is asked for by name.
    """
    program = raising(MigrateError("No."))

    found = CliRunner().invoke(program, ["--color", flag, "work"], env=environment, color=True)

    assert ("\x1b[" in found.stderr) is painted


@pytest.mark.parametrize("words", [["work"], ["work", "--no-input"]])
def test_nobody_is_asked_without_a_terminal(run: Run, words: list[str]) -> None:
    """
    A missing --yes is an error that names the flag, never a prompt that hangs.
    """
    found = run(*words, program=program_with(lambda app: app.confirm("Go on?", yes=False)))

    assert found.exit_code == ExitCode.USAGE
    assert found.stderr == (
        "error[usage]: Go on? Nobody can be asked here.\n  next:  Add --yes to the same command.\n"
    )


# Pipes


def closed_pipe() -> int:
    """
    The writing end of a pipe that nobody reads.
    """
    reading, writing = os.pipe()
    os.close(reading)
    return writing


FACE = """
import sys
from migrate.cli.main import Program, main
import migrate.cli.main as module
from migrate.cli.context import AppContext, pass_app
from migrate.cli.options import Command, shared_options

program = module.cli = Program(name="profile-migrate", params=shared_options())

@program.command(cls=Command)
@pass_app
def work(app):
{body}

sys.argv = ["profile-migrate", {words}]
main()
"""


def face(body: str, *words: str) -> str:
    """
    A script that runs the real entry point with one command of our own.
    """
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return FACE.replace("{body}", indented).replace("{words}", ", ".join(map(repr, words)))


@pytest.mark.parametrize(
    ("words", "code"), [(["--help"], ExitCode.DONE), (["work"], ExitCode.DIFFERENCES)]
)
def test_a_reader_that_went_away_is_no_error(words: list[str], code: ExitCode) -> None:
    """
    `| head` ends no command: no trace, and the exit code is that of the work.
    """
    body = "app.emit({}, 'x' * 100000)\napp.emit({}, 'y')\nreturn 3"
    writing = closed_pipe()

    with python(face(body, *words), stdout=writing) as process:
        os.close(writing)
        _, stderr = process.communicate(timeout=START_S)

    assert (process.returncode, stderr) == (code, "")


def test_messages_that_nobody_reads_stop_nothing() -> None:
    """
    With `2>&1 | head` messages are lost, and the work goes on to its result.
    """
    writing = closed_pipe()
    body = "app.say('x')\napp.warn('y')\napp.emit({}, 'done')"

    with python(face(body, "work"), stderr=writing) as process:
        os.close(writing)
        stdout, _ = process.communicate(timeout=START_S)

    assert (process.returncode, stdout) == (0, "done\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_the_output_is_an_error() -> None:
    """
    A result that could not be written is never taken for one that was.
    """
    script = face("app.emit({}, 'done')", "work")

    with Path("/dev/full").open("w") as full, python(script, stdout=full) as process:
        _, stderr = process.communicate(timeout=START_S)

    assert process.returncode == ExitCode.FAILED
    assert stderr == (
        "error[output-failed]: The result could not be written to standard output.\n"
        "  where: reason=ENOSPC\n"
        "  next:  Make room, or send the output elsewhere, and run the command again.\n"
    )


def test_a_stream_that_cannot_show_a_character_gets_its_escape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    An old terminal costs a character its looks, not the run its life.
    """
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")

    with python(face("app.emit({}, '\\u2713')", "work")) as process:
        stdout, stderr = process.communicate(timeout=START_S)

    assert (process.returncode, stdout, stderr) == (0, "\\u2713\n", "")


# Signals

WAITING = """
import time
app.write("ready")
time.sleep(60)
"""

STOPPING = """
import sys
from migrate.cli.signals import StopFlag
with StopFlag() as stop:
    app.write("ready")
    while stop() is None:
        stop.sleep(60)
    app.write("asked")
    if sys.stdin.readline():
        app.write("finished")
    stop.raise_if_requested()
"""


@pytest.fixture
def started() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """
    Starts a command and waits until it says that it is ready.
    """
    processes = []

    def start(body: str) -> subprocess.Popen[str]:
        process = python(face(body.strip(), "work"), stdin=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


SIGNALS = [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_a_command_with_one_line(
    started: Callable[[str], subprocess.Popen[str]], number: signal.Signals, code: ExitCode
) -> None:
    """
    Ctrl-C and SIGTERM show no trace and say how to go on.
    """
    process = started(WAITING)

    process.send_signal(number)
    _, stderr = process.communicate(timeout=START_S)

    assert process.returncode == code
    assert stderr == "Stopped. Run the same command to continue.\n"


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_signal_lets_the_batch_finish(
    started: Callable[[str], subprocess.Popen[str]], number: signal.Signals, code: ExitCode
) -> None:
    """
    A run is asked to stop, wakes from its wait at once, and ends when its batch is done.
    """
    process = started(STOPPING)
    begin = time.monotonic()

    process.send_signal(number)
    stdout, stderr = process.communicate("go on\n", timeout=START_S)

    assert (process.returncode, stdout) == (code, "asked\nfinished\n")
    assert stderr == (
        "Finishing the batch; Ctrl-C again stops at once.\n"
        "Stopped. Run the same command to continue.\n"
    )
    assert time.monotonic() - begin < START_S


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_second_signal_ends_the_run_at_once(
    started: Callable[[str], subprocess.Popen[str]], number: signal.Signals, code: ExitCode
) -> None:
    """
    Whatever the batch is waiting for, a second signal ends the process.
    """
    process = started(STOPPING)
    assert process.stdout is not None

    process.send_signal(number)
    asked = process.stdout.readline()
    process.send_signal(number)

    assert asked == "asked\n"
    assert process.wait(START_S) == code


def test_an_engines_stop_keeps_its_code_and_words(run: Run) -> None:
    """
    A run that stopped itself after a signal says what is saved, without the word error.
    """
    error = Stopped("Stopped between two chunks.", next_step="Run the same command to continue.")
    error.exit_code = ExitCode.TERMINATED

    found = run("work", program=raising(error))

    assert found.exit_code == ExitCode.TERMINATED
    assert found.stderr == (
        "Stopped between two chunks.\n  next:  Run the same command to continue.\n"
    )


# Commands

SOUND = """\
version: 1
name: {name}
source: {{table: {name}, key: [id], where: "active = true"}}
target: {{key: "{name}:{{id}}"}}
fields:
  id: {{}}
  email: {{column: email_address}}
  password_hash: {{drop: true}}
"""


@pytest.fixture
def mappings(folder: Path) -> Path:
    """
    A folder with two sound mappings, where nobody has configured anything.
    """
    made = folder / "mappings"
    made.mkdir()
    for name in ("users", "groups"):
        (made / f"{name}.yaml").write_text(SOUND.format(name=name))
    return made


def test_lint_needs_no_configuration(run: Run, mappings: Path) -> None:
    """
    The default folder, a folder by --path, a name or a file: each is checked without a server.
    """
    both = "mappings/groups.yaml: 'groups' is sound.\nmappings/users.yaml: 'users' is sound.\n"
    users = "mappings/users.yaml: 'users' is sound.\n"

    assert run("mapping", "lint").stdout == both
    assert run("mapping", "lint", "--path", "mappings").stdout == both
    assert run("mapping", "lint", "users").stdout == users
    assert run("mapping", "lint", "mappings/users.yaml").stdout == users


def test_lint_as_json_names_what_it_checked(run: Run, mappings: Path) -> None:
    """
    The result is an object with its schema.
    """
    found = run("mapping", "lint", "users", "--json")

    assert json.loads(found.stdout) == {
        "schema": "profile-migrate.mapping-lint/1",
        "mappings": [{"name": "users", "file": "mappings/users.yaml", "one_way": []}],
    }
    assert found.stderr == ""


def test_lint_shows_every_problem_with_its_place(run: Run, mappings: Path) -> None:
    """
    A wrong file is exit 2 with file, line, column and rule, and no trace.
    """
    broken = SOUND.format(name="users").replace("fields:", "feilds:")
    (mappings / "users.yaml").write_text(broken)

    found = run("mapping", "lint")

    assert (found.exit_code, found.stdout) == (ExitCode.USAGE, "")
    assert re.search(r"^mappings/users\.yaml:5:1: \[[a-z-]+\] .*fields", found.stderr)
    assert "Traceback" not in found.stderr


def test_an_unknown_mapping_gets_the_nearest_one(run: Run, mappings: Path) -> None:
    """
    A name that is not there is answered with those that are.
    """
    found = run("mapping", "show", "user")

    assert found.exit_code == ExitCode.USAGE
    assert found.stderr == (
        "error[unknown-mapping]: Unknown mapping 'user'. Did you mean 'users'?\n"
        '  where: known="groups, users"\n'
        "  next:  profile-migrate mapping lint\n"
    )


def test_show_prints_the_mapping_as_understood(run: Run, mappings: Path) -> None:
    """
    Defaults that the file leaves out are shown.
    """
    assert run("mapping", "show", "users").stdout == (
        "mapping     users\n"
        "file        mappings/users.yaml\n"
        "table       users\n"
        "key         id\n"
        "where       active = true\n"
        "record key  users:{id}\n"
        "type        hash\n"
        "expires     never\n"
        "reserved    _v, _h, _t, _l, _e\n"
        "\n"
        "field          column         as\n"
        "id             id             usual form\n"
        "email          email_address  usual form\n"
        "password_hash  password_hash  never leaves SQL\n"
    )


def test_show_as_json_holds_the_same(run: Run, mappings: Path) -> None:
    """
    Programs get the mapping as values.
    """
    found = json.loads(run("mapping", "show", "users", "--json").stdout)

    assert found == {
        "schema": "profile-migrate.mapping-show/1",
        "name": "users",
        "file": "mappings/users.yaml",
        "source": {
            "schema": None,
            "table": "users",
            "key": ["id"],
            "where": "active = true",
            "delete": None,
        },
        "target": {
            "key": "users:{id}",
            "type": "hash",
            "ttl": None,
            "reserved": {
                "version": "_v",
                "digest": "_h",
                "tombstone": "_t",
                "lookups": "_l",
                "expires": "_e",
            },
        },
        "fields": [
            {"name": "id", "column": "id", "as": None, "drop": False, "mask": None},
            {"name": "email", "column": "email_address", "as": None, "drop": False, "mask": None},
            {
                "name": "password_hash",
                "column": "password_hash",
                "as": None,
                "drop": True,
                "mask": None,
            },
        ],
        "children": [],
        "lookups": [],
        "ids": None,
        "one_way": [],
    }


WHOLE = """\
version: 1
name: whole
source:
  table: users
  key: [id]
  where: "gone IS NULL"
  delete: {set: {gone: now, why: "left"}}
target: {key: "whole:{id}", ttl: {seconds: 60}}
lookups: {by_email: {key: "whole:email:{email}", unique: true}}
ids: {made_by: sql, sequence: public.users_id_seq}
"""


def test_show_prints_lookups_expiry_and_the_way_back(run: Run, mappings: Path) -> None:
    """
    What only some mappings have is shown where they have it.
    """
    (mappings / "whole.yaml").write_text(WHOLE)

    text = run("mapping", "show", "whole").stdout
    found = json.loads(run("mapping", "show", "whole", "--json").stdout)

    assert text == (
        "mapping     whole\n"
        "file        mappings/whole.yaml\n"
        "table       users\n"
        "key         id\n"
        "where       gone IS NULL\n"
        "record key  whole:{id}\n"
        "type        hash\n"
        "expires     60 seconds after the beginning of the run\n"
        'delete      sets gone = now, why = "left"\n'
        "ids         id, made by sql, sequence public.users_id_seq\n"
        "reserved    _v, _h, _t, _l, _e\n"
        "fields      every column as it is\n"
        "\n"
        "lookup    type    key                  score\n"
        "by_email  string  whole:email:{email}\n"
    )
    assert found["source"]["delete"] == {"set": {"gone": "now", "why": "left"}}
    assert found["target"]["ttl"] == {"seconds": 60}
    assert found["ids"] == {"made_by": "sql", "column": "id", "sequence": "public.users_id_seq"}
    assert found["lookups"] == [
        {
            "name": "by_email",
            "type": "string",
            "key": "whole:email:{email}",
            "unique": True,
            "score": None,
        }
    ]


def test_the_schema_of_mappings_is_printed(run: Run) -> None:
    """
    Editors get a JSON Schema.
    """
    assert json.loads(run("mapping", "schema").stdout)["type"] == "object"


def configured(folder: Path, url: str) -> None:
    (folder / "migrate.yaml").write_text(
        f'version: 1\nsource: {{url: "sqlite:///x.db"}}\nredis: {{target: {{url: "{url}"}}}}\n'
    )


def test_detect_tells_what_a_redis_is(run: Run, folder: Path, redis_server: RedisServer) -> None:
    """
    Topology, flavour, version and role come from the server.
    """
    address = redis_server.config().address
    configured(folder, address)

    found = json.loads(run("redis", "detect", "target", "--json").stdout)
    shown = run("redis", "detect")

    assert found["schema"] == "profile-migrate.redis-detect/1"
    assert (found["name"], found["address"]) == ("target", address)
    assert (found["topology"], found["role"]) == ("standalone", "master")
    assert f"address   {address}\n" in shown.stdout
    assert f"server    {found['flavour']} {found['version']}\n" in shown.stdout


def test_detect_knows_its_instances(run: Run, folder: Path) -> None:
    """
    A name that no file gives is answered with those that it does.
    """
    configured(folder, "redis://127.0.0.1:6379/0")

    found = run("redis", "detect", "tarket")

    assert found.exit_code == ExitCode.USAGE
    assert found.stderr == (
        "error[usage]: No Redis instance is called 'tarket'. Did you mean 'target'?\n"
        "  where: known=target\n"
        "  next:  Take one of these, or add it below `redis:` in migrate.yaml.\n"
    )


@pytest.mark.parametrize("arguments", [["status"], ["backfill", "users"], ["plan"]])
def test_an_empty_folder_is_told_how_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """
    Without configuration and mappings the next step is the README or the demo, not a path.
    """
    monkeypatch.chdir(tmp_path)

    ended = CliRunner().invoke(cli, arguments)

    assert ended.exit_code == 2
    assert "Nothing is configured here." in ended.stderr
    assert "profile-migrate demo" in ended.stderr
    assert list(tmp_path.iterdir()) == []
