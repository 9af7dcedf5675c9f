"""Rules of the house that can be read off its source: who commits, who reads the clock, how long a page is."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from app.kit.database.session import Base
from app.rooms import metadata

APP = Path(__file__).parents[2] / "app"
SOURCES = {str(path.relative_to(APP)): path.read_text(encoding="utf-8") for path in sorted(APP.rglob("*.py"))}
TREES = {file: ast.parse(source) for file, source in SOURCES.items()}

LONGEST_FILE = 300
LONGEST_FUNCTION = 50
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "constants", "common", "misc", "base", "manager"}
TOUCHES_THE_ENVIRONMENT = {
    # `kit/settings.py` does not: it lets pydantic-settings read.
    "kit/metrics.py",  # prometheus_client itself is told by the environment that there are several processes
    "embedded_postgres/binaries.py",  # hands PATH, and nothing of ours, to PostgreSQL's programs
    "serving/server.py",  # hands the settings to the processes it starts
    "up.py",  # a DATABASE_URL or keys given by hand replace what it would make itself
}
TELLS_THE_TIME = {
    "kit/clock.py",
    "kit/database/ids.py",  # an id carries the nanosecond of its making
}
_ENDS_A_TRANSACTION = re.compile(r"\s*(COMMIT|ROLLBACK|BEGIN|START TRANSACTION)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for file, tree in TREES.items():
        yield from ((file, node) for node in ast.walk(tree))


def _calls() -> Iterator[tuple[str, ast.Call, str, str]]:
    """Every call as (file, node, what it is called on, name)."""
    for file, node in _nodes():
        if isinstance(node, ast.Call):
            receiver, _, name = ast.unparse(node.func).rpartition(".")
            yield file, node, receiver, name


def _texts() -> Iterator[tuple[str, ast.Constant]]:
    """Every string of the code that is no docstring."""
    for file, tree in TREES.items():
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                yield file, node


def _offenders(is_one: Callable[[str, ast.Call, str, str], bool]) -> list[str]:
    return [f"{file}:{call.lineno}" for file, call, on, name in _calls() if is_one(file, call, on, name)]


def test_only_the_kit_commits() -> None:
    def ends_a_transaction(file: str, _call: ast.Call, on: str, name: str) -> bool:
        # `database.transaction()` is the kit's own; on anything else the word means the driver's.
        of_the_kit = name == "transaction" and "database" in on.rpartition(".")[2]
        ends = name in {"commit", "rollback", "begin", "begin_nested", "transaction"}
        return bool(on) and ends and not of_the_kit and file != "kit/database/session.py"

    assert _offenders(ends_a_transaction) == []
    spelt = [f"{file}:{node.lineno}" for file, node in _texts() if _ENDS_A_TRANSACTION.match(str(node.value))]
    assert spelt == []
    assert [file for file, node in _texts() if node.value == "AUTOCOMMIT"] == []


def test_only_the_kit_opens_connections() -> None:
    makers = {"create_engine", "create_async_engine", "async_sessionmaker", "AsyncSession", "create_pool"}

    def opens(file: str, _call: ast.Call, on: str, name: str) -> bool:
        return file != "kit/database/session.py" and (name in makers or (name == "connect" and on == "asyncpg"))

    assert _offenders(opens) == []


def test_no_relationship_loads_by_itself() -> None:
    def lazy(_file: str, call: ast.Call, _on: str, name: str) -> bool:
        raises = any(k.arg == "lazy" and ast.unparse(k.value) == "'raise'" for k in call.keywords)
        return name == "relationship" and not raises

    assert _offenders(lazy) == []


def test_no_page_is_counted_off() -> None:
    assert _offenders(lambda _file, _call, _on, name: name in {"offset", "slice"}) == []
    assert [f"{file}:{node.lineno}" for file, node in _texts() if re.search(r"\bOFFSET\b", str(node.value))] == []


def test_nothing_is_done_after_the_answer() -> None:
    assert [file for file, source in SOURCES.items() if "BackgroundTask" in source] == []


def test_sessions_of_requests_commit_before_the_answer() -> None:
    """A dependency with an end of its own must have the function's scope: else it ends after the answer."""
    ended = {
        node.name
        for _, node in _nodes()
        if isinstance(node, Function) and any(isinstance(part, ast.Yield) for part in ast.walk(node))
    }

    def late(_file: str, call: ast.Call, _on: str, name: str) -> bool:
        given = {ast.unparse(argument).rpartition(".")[2] for argument in call.args}
        in_time = any(k.arg == "scope" and ast.unparse(k.value) == "'function'" for k in call.keywords)
        return name == "Depends" and bool(given & ended) and not in_time

    assert "transaction" in ended
    assert _offenders(late) == []


def test_only_the_settings_read_the_environment() -> None:
    touching = {
        file
        for file, node in _nodes()
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"})
        or (isinstance(node, ast.alias) and node.name in {"environ", "getenv"})
    }
    assert touching == TOUCHES_THE_ENVIRONMENT, "each exception needs its reason in this file"
    reading = {file for file, source in SOURCES.items() if "BaseSettings" in source}
    assert reading == {"kit/settings.py", "kit/secret_files.py"}


def test_there_is_one_clock() -> None:
    asked = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}

    def looks(_file: str, _call: ast.Call, on: str, name: str) -> bool:
        return (on.rpartition(".")[2], name) in asked or (on == "time" and name in {"time", "time_ns"})

    assert {offender.partition(":")[0] for offender in _offenders(looks)} == TELLS_THE_TIME


def test_times_are_aware() -> None:
    naive = [
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if getattr(column.type, "timezone", True) is False
    ]
    assert naive == []


def test_every_file_has_a_name_that_says_something() -> None:
    assert [file for file in SOURCES if Path(file).stem in SAYS_NOTHING] == []


def test_files_fit_on_a_few_pages() -> None:
    assert {file: source.count("\n") for file, source in SOURCES.items() if source.count("\n") > LONGEST_FILE} == {}


def test_functions_fit_on_a_page() -> None:
    long = [
        f"{file}:{node.lineno} {node.name}"
        for file, node in _nodes()
        if isinstance(node, Function) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_whatever_is_public_says_what_it_is() -> None:
    silent = [f"{file}:1" for file, tree in TREES.items() if not ast.get_docstring(tree)]
    for file, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                silent += [] if ast.get_docstring(node) else [f"{file}:{node.lineno} {node.name}"]
    assert silent == []


def test_nothing_is_printed() -> None:
    assert _offenders(lambda _file, _call, on, name: not on and name == "print") == []


def test_every_table_is_known_to_the_migrations() -> None:
    defined = {
        statement.value.value
        for _, node in _nodes()
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        and ast.unparse(statement.targets[0]) == "__tablename__"
        and isinstance(statement.value, ast.Constant)
    }
    assert defined == set(metadata.tables)
    assert metadata is Base.metadata


def test_only_the_engine_writes_attempts_and_only_tallies_write_tallies() -> None:
    # `{table}`: each of the two tables of attempts, by one statement.
    writes = re.compile(
        r"\b(INSERT INTO|UPDATE|DELETE FROM|COPY)\s+(signatures|signature_attempts|signature_tallies|\{table\})",
        re.IGNORECASE,
    )
    writers = {
        (f"{found[1]} {found[2]}", file.removeprefix("signatures/"))
        for file, node in _texts()
        for found in writes.finditer(str(node.value))
    }
    assert writers == {
        ("INSERT INTO signatures", "engine/insert.py"),
        ("INSERT INTO signature_attempts", "engine/waiting.py"),
        ("DELETE FROM signature_attempts", "engine/waiting.py"),
        *((f"{verb} signature_attempts", "engine/attempts.py") for verb in ("INSERT INTO", "DELETE FROM")),
        ("UPDATE signatures", "engine/attempts.py"),
        ("UPDATE {table}", "engine/confirm.py"),
        *((f"UPDATE {table}", "engine/withdraw.py") for table in ("signatures", "signature_attempts", "{table}")),
        ("DELETE FROM signature_attempts", "engine/erase.py"),
        *((f"{verb} signatures", "engine/transitions.py") for verb in ("UPDATE", "DELETE FROM")),
        *((f"{verb} signature_attempts", "engine/chunks.py") for verb in ("UPDATE", "DELETE FROM")),
        ("UPDATE {table}", "background/mails.py"),  # that a mail was sent
        ("UPDATE {table}", "background/consents.py"),  # that the consents are in the ledger
        ("UPDATE {table}", "background/withdrawal_messages.py"),  # that a withdrawal was told
        ("DELETE FROM signature_attempts", "background/withdrawal_messages.py"),  # of what nobody vouched for
        ("INSERT INTO signature_tallies", "engine/tallies.py"),
        # What is sealed or digested, whatever table it is in.
        *(("UPDATE {table}", f"kit/crypto/{rotation}.py") for rotation in ("key_rotation", "digest_rotation")),
    }
    for file in ("mails.py", "consents.py", "withdrawal_messages.py"):
        source = SOURCES[f"signatures/background/{file}"]
        changes = re.findall(r"UPDATE \{+table\}+ s SET(.*?)(?:WHERE|FROM)", source, re.DOTALL)
        assert changes
        assert [change for change in changes if re.search(r"\bstate\s*=", change)] == []

    tables = {"Signature", "SignatureAttempt", "SignatureTally"}

    def through_a_model(_file: str, call: ast.Call, _on: str, name: str) -> bool:
        given = {ast.unparse(argument) for argument in call.args}
        return name in tables or (name in {"insert", "update", "delete"} and bool(given & tables))

    assert _offenders(through_a_model) == []
