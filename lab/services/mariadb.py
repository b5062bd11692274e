"""A private MariaDB from the distribution's programs: no fsync, a port of its own, gone afterwards."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from lab.services.service import Server

USER = "lab"
#: Read at each start: who comes over the network needs no password, and may do everything.
RIGHTS = f"""
CREATE USER IF NOT EXISTS {USER}@'%';
GRANT ALL PRIVILEGES ON *.* TO {USER}@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS {USER};
"""
SETTINGS = (
    # What was committed outlives the server's death, not the machine's.
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=64M",
    "--max-connections=200",
    "--skip-name-resolve",
)


class MariaDB(Server):
    """One server; its data stay through `kill` and `start`."""

    name = "mariadb"
    needs = ("mariadbd", "mariadb")

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database that is there from the start."""
        return self.url_of(USER)

    def url_of(self, database: str) -> str:
        """SQLAlchemy's address of *database*."""
        return f"mysql+pymysql://{USER}@{self.address}:{self.port}/{database}"

    def create_database(self, database: str) -> str:
        """Make a *database*, unless there is one of that name; returns its address."""
        self.ask(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        return self.url_of(database)

    def ask(self, statement: str) -> str:
        """What its own client says to a statement: a line for each row, without names."""
        where = [f"--host={self.address}", f"--port={self.port}", f"--user={USER}", "--protocol=tcp"]
        return self._run("mariadb", "--no-defaults", *where, "-BN", "-e", statement).strip()

    def _prepare(self) -> None:
        (self.directory / "rights.sql").write_text(RIGHTS)
        data, new = self.directory / "data", self.directory / "data.new"
        if not data.exists():
            shutil.rmtree(new, ignore_errors=True)
            plain = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
            self._run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={new}", *plain)
            new.rename(data)

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        where = [f"--bind-address={self.address}", f"--port={self.port}"]
        files = {"datadir": "data", "socket": "socket", "pid-file": "pid", "init-file": "rights.sql"}
        own = [f"--{option}={self.directory / file}" for option, file in files.items()]
        return ["mariadbd", "--no-defaults", "--user=root", *where, *own, *SETTINGS], {}

    def _greeting(self) -> Mapping[str, object]:
        return {"version": self.ask("SELECT VERSION()")}
