"""`lab.postgres` by the name that ``tools/lab services`` takes."""

from pathlib import Path

from lab.postgres import PostgreSQL
from lab.services.service import Service


class SharedPostgreSQL(Service):
    """A server with an empty database, ``postgres``; whoever comes is its administrator."""

    name = "postgresql"

    def __init__(self, directory: Path, address: str = "") -> None:
        super().__init__(directory, address)
        self.server = PostgreSQL(directory / "server", self.address, self._alone(), self.port)

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database."""
        return self.server.url()

    @property
    def pid(self) -> int | None:
        """The first process of the server while it lives."""
        return self.server.pid

    @property
    def log(self) -> Path:
        """What it says."""
        return self.server.directory / "log"

    def start(self, timeout_s: float = 120) -> None:
        """Start it and return when it answers; nothing if it runs."""
        self._settle()
        self.server.start(timeout_s)

    def kill(self) -> None:
        """End it as a crash would."""
        self.server.kill()
