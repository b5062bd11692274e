"""Asking a host to look at itself, and its worker's answer.

::

    /hostler/doctor/<host>/<request>    ephemeral, the asker's: the question, then in its place the answer

The worker's watch on its host's node wakes it. When the asker goes, so does the node: nothing is ever left.
An answer is packed; it must fit into a node.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from kazoo.exceptions import KazooException, NoNodeError

from hostler.errors import HostlerError, Interrupted, Refused
from hostler.jobboard import lock, verification
from hostler.jobboard.board import Board
from hostler.jobboard.doctor import at_host, look, recorded
from hostler.jobboard.doctor.findings import Finding
from hostler.jobboard.doctor.look import HostFacts
from hostler.jobboard.doctor.mend_host import Hands
from hostler.records.database import Database
from hostler.tasks.base import Drivers

LOG = logging.getLogger(__name__)

#: ZooKeeper refuses nodes of 1 MiB (jute.maxbuffer).
LIMIT_BYTES = 1_000_000
#: What a message may be unpacked: few bytes can stand for very many.
LIMIT_UNPACKED_BYTES = 64 * LIMIT_BYTES
#: Between two looks whether the asked worker is still alive.
RECHECK_S = 1.0

Answer = dict[str, Any]


def pack(message: Answer) -> bytes:
    """Return a node's contents."""
    return zlib.compress(json.dumps(message).encode())


def unpack(data: bytes) -> Answer:
    """Read a node's contents; what is no message is an empty one."""
    try:
        message = json.loads(zlib.decompressobj().decompress(data, LIMIT_UNPACKED_BYTES))
    except (ValueError, RecursionError, zlib.error):
        return {}
    return message if isinstance(message, dict) else {}


class Surgery:
    """The worker's side: answers one request after the other, beside the worker's own loop."""

    def __init__(
        self, board: Board, database: Database, drivers: Drivers, host: str, state_path: str, run_path: str
    ) -> None:
        self._board = board
        self._database = database
        self._drivers = drivers
        self._host = host
        self._state_path = state_path
        self._run_path = run_path
        self._path = board.path("doctor", host)
        self._seen: set[str] = set()
        self._one_by_one = threading.Lock()

    def serve(self, watch: Callable[[Any], None]) -> None:
        """Take the requests that are there; *watch* is called once when there are others."""
        client = self._board.client
        try:
            requests = client.get_children(self._path, watch=watch)
        except NoNodeError:
            client.ensure_path(self._path)
            requests = client.get_children(self._path, watch=watch)
        for request in sorted(set(requests) - self._seen):
            name = f"doctor-{request[:8]}"
            threading.Thread(target=self._answer, args=(request,), name=name, daemon=True).start()
        self._seen = set(requests)

    def _answer(self, request: str) -> None:
        node = f"{self._path}/{request}"
        try:
            question = unpack(bytes(self._board.client.get(node)[0]))
            # Reading disks takes long, and holds up no look at the host.
            with self._one_by_one if question.get("ask") != "verify" else nullcontext():
                if "ask" in question:
                    self._board.client.set(node, self._packed(question))
        except NoNodeError:
            LOG.debug("whoever asked for a look at %s did not wait for it", self._host)
        except KazooException as error:
            reason = str(error) or type(error).__name__
            LOG.warning("a look at %s could not be answered: %s", self._host, reason)

    def _packed(self, question: Answer) -> bytes:
        try:
            answer = self._said(question)
        except Refused as error:
            answer = {"error": str(error), "refused": True}
        except (HostlerError, Interrupted) as error:
            answer = {"error": str(error)}
        except Exception as error:
            LOG.exception("looking at %s failed", self._host)
            answer = {"error": f"{type(error).__name__}: {error}"}
        data = pack(answer)
        if len(data) > LIMIT_BYTES:
            return pack({"error": f"it has more to tell than ZooKeeper takes: {len(data)} bytes"})
        return data

    def _said(self, question: Answer) -> Answer:
        if question["ask"] == "look":
            return self._look()
        if question["ask"] == "verify":
            migration = str(question.get("migration"))
            disks = verification.answer(self._database, self._drivers, self._run_path, migration)
            return {"disks": [disk.to_dict() for disk in disks]}
        return self._mend(question)

    def _look(self) -> Answer:
        return {"facts": self._facts().to_dict()}

    def _facts(self) -> HostFacts:
        places = recorded.places(self._database, self._host)
        return look.look(self._host, self._drivers, self._state_path, self._run_path, places)

    def _mend(self, question: Answer) -> Answer:
        """Find again what is to be mended, and mend it; what is not found again is mended already."""
        earlier = recorded.read(self._database)
        facts = self._facts()
        records = recorded.read(self._database).was_busy(earlier)
        wanted = set(question.get("keys", ()))
        hands = Hands(self._host, self._database, self._drivers, facts)
        left = {}
        for finding in at_host.examine(facts, records):
            if finding.safe and finding.key in wanted and (reason := self._mend_one(hands, finding)):
                left[finding.key] = reason
        return {"left": left}

    def _mend_one(self, hands: Hands, finding: Finding) -> str | None:
        """Mend one thing while no step works on its server here; return why it was not."""
        try:
            with lock.held(self._run_path, f"instance-{finding.instance}"):
                hands.mend(finding)
        except (HostlerError, OSError) as error:
            LOG.warning("%s: was not mended: %s", finding.text, error)
            return str(error)
        LOG.warning("%s: was mended", finding.text)
        return None


class Asking:
    """The asker's side: one question to several hosts at once, and no waiting for the dead."""

    def __init__(self, board: Board, timeout_s: float) -> None:
        self._board = board
        self._timeout_s = timeout_s
        self._changed = threading.Event()

    def ask(self, questions: dict[str, Answer]) -> dict[str, Answer]:
        """Return each host's answer; a host that gives none has an ``error``."""
        request = str(uuid.uuid4())
        try:
            for host, question in questions.items():
                self._board.client.ensure_path(self._board.path("doctor", host))
                self._board.client.create(self._node(host, request), pack(question), ephemeral=True)
            return self._wait(list(questions), request)
        finally:
            for host in questions:
                self._forget(self._node(host, request))

    def _wait(self, hosts: Sequence[str], request: str) -> dict[str, Answer]:
        deadline = time.monotonic() + self._timeout_s
        answers: dict[str, Answer] = {}
        while waiting := [host for host in hosts if host not in answers]:
            self._changed.clear()
            for host in waiting:
                found = unpack(self._board.client.get(self._node(host, request), watch=self._wake)[0])
                if "ask" not in found:
                    answers[host] = found or {"error": "its answer cannot be read"}
            alive = self._board.alive()
            for host in set(waiting) - set(answers) - set(alive):
                answers[host] = {"error": "no worker is alive", "dead": True}
            left = deadline - time.monotonic()
            if left <= 0:
                late = {"error": f"its worker did not answer within {self._timeout_s:.0f} s"}
                return {host: answers.get(host, late) for host in hosts}
            if len(answers) < len(hosts):
                self._changed.wait(min(left, RECHECK_S))
        return answers

    def _wake(self, _event: object) -> None:
        self._changed.set()

    def _node(self, host: str, request: str) -> str:
        return self._board.path("doctor", host, request)

    def _forget(self, node: str) -> None:
        try:
            self._board.client.delete(node)
        except NoNodeError:
            pass
        except KazooException as error:
            LOG.debug("a request stays until this session ends: %s", error)


def facts_of(answer: Answer) -> HostFacts | str:
    """Return what a host saw, or why nothing is known of it."""
    if "error" in answer:
        return str(answer["error"])
    try:
        facts = HostFacts.from_dict(answer["facts"])
        lists = [facts.domains, facts.files, facts.state, facts.receivers, facts.running]
        if not all(isinstance(found, list) for found in lists):
            raise ValueError("what should be lists is none")
    except (KeyError, TypeError, ValueError, AttributeError):
        return "its answer cannot be read: its worker is of another version"
    return facts
