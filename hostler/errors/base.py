"""The root of what hostler raises on purpose, and what is kept of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


class HostlerError(Exception):
    """The root of what hostler raises on purpose.

    A leaf declares *template*, a :meth:`str.format` text over its keyword arguments, and *hint_template*, another one:
    the command that leads out of it. There each argument is a word that a shell takes as it is.
    """

    template: ClassVar[str] = "{message}"
    hint_template: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, /, **facts: object) -> None:
        if message is not None:
            facts.setdefault("message", message)
        self.facts = facts
        self.sentence = message if message is not None else self.template.format(**facts)
        super().__init__(self.sentence, self.hint)

    def __getattr__(self, name: str) -> object:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __str__(self) -> str:
        return self.sentence

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.sentence, self.facts))

    @property
    def hint(self) -> str:
        """The next thing to type, or the empty string."""
        given = self.facts.get("hint")
        if isinstance(given, str):
            return given
        try:
            return self.hint_template.format(**{name: _word(fact) for name, fact in self.facts.items()})
        except (KeyError, IndexError):
            return ""


def _word(fact: object) -> str:
    """Return *fact* as the last words of a command: a name may be anybody's text, and begin with a dash."""
    word = shlex.quote(str(fact))
    return f"-- {word}" if word.startswith("-") else word


def _rebuild(kind: type[HostlerError], sentence: str, facts: dict[str, object]) -> HostlerError:
    error = kind.__new__(kind)
    error.facts = facts
    error.sentence = sentence
    Exception.__init__(error, sentence, error.hint)
    return error


class Problem(str):
    """A sentence that says why something cannot be. *hint*: what to type about it, where that is its own."""

    hint: str

    def __new__(cls, sentence: str, hint: str = "") -> Self:
        """Return the sentence, which knows its hint; a copy that is made of it as text does not."""
        problem = super().__new__(cls, sentence)
        problem.hint = hint
        return problem

    @classmethod
    def of(cls, error: HostlerError) -> Self:
        """Return what *error* says, to be told of together with others."""
        return cls(str(error), error.hint)


def hints_of(problems: Sequence[str], otherwise: str) -> list[str]:
    """Return what to type about each of *problems*."""
    return [getattr(problem, "hint", "") or otherwise for problem in problems]


def kept_hint(failure: Mapping[str, Any]) -> str:
    """Return the hint of the error whose record TaskFlow's *failure* is; empty where it has none.

    Another's error has arguments of its own, and versions up to 0.1 have kept the sentence alone.
    """
    kinds = failure.get("exc_type_names") or ()
    arguments: Sequence[object] = failure.get("exc_args") or ()
    return str(arguments[1]) if "hostler.errors.HostlerError" in kinds and len(arguments) > 1 else ""


def and_then(hint: str, command: str) -> str:
    """Return *hint*, which says how to mend the cause, with the command that is to be typed after it."""
    return f"{hint}; then: {command}" if hint else command
