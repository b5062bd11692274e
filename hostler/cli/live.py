"""The live view: one picture of a migration, drawn again as it changes."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from hostler.flows.graph import DONE, FAILED, PENDING, RUNNING, UNDO_FAILED, UNDOING, UNDONE
from hostler.views.changes import ending, file_name, heading, progress
from hostler.views.snapshot import FileView, Snapshot
from hostler.views.steps import StepView
from hostler.views.text import apart, command, cut, duration, printable, together
from hostler.views.turns import Waiting

_MARKS = {
    PENDING: ("·", ".", "dim"),
    RUNNING: ("▶", ">", "bold blue"),
    DONE: ("✓", "+", "green"),
    FAILED: ("✗", "x", "bold red"),
    UNDOING: ("◀", "<", "bold yellow"),
    UNDONE: ("↶", "-", "magenta"),
    UNDO_FAILED: ("‼", "!", "bold red"),
}
_BAR = 20
_COPY = "CopyImages"  #: the step whose files are shown
_ERROR_LINES = 3


class Picture:
    """Draws snapshots for one console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = console.options.ascii_only

    def draw(self, seen: Snapshot, waiting: Waiting | None = None, *, whole: bool = False) -> RenderableType:
        """Return the picture; it fits the terminal unless *whole* is asked for."""
        foot = self._in_place(seen) + self._files(seen) + self._foot(seen, waiting)
        room = len(seen.steps) if whole else max(self._console.height - len(foot) - 2 - self._errors(seen), 1)
        return Group(self._head(seen), *self._steps(seen, room), *foot)

    def overview(self, seen: Sequence[tuple[Snapshot, Waiting | None]]) -> RenderableType:
        """Return the picture of several, each in a few lines; those that do not fit are counted."""
        room = max(self._console.height - 1, 2)
        lines: list[Text] = []
        for number, (one, waiting) in enumerate(seen):
            more = self._brief(one, waiting)
            if len(lines) + len(more) > room - (number + 1 < len(seen)):
                return Group(*lines, Text(f"and {len(seen) - number} more", style="dim"))
            lines += more
        return Group(*lines) if lines else Text("nothing is under way", style="dim")

    def _brief(self, seen: Snapshot, waiting: Waiting | None) -> list[Text]:
        lines = [self._head(seen)]
        if (turn := seen.turn) is not None:
            mark, style = self._mark(turn.state)
            words = f"  {mark} {turn.number}/{len(seen.steps)} {printable(turn.host)} {turn.name} {turn.mark.words}"
            lines.append(Text(words, style=style, no_wrap=True, overflow="ellipsis"))
        if (cause := seen.cause) is not None:
            lines += self._error(cause.mark.error)
        return lines + self._sum(seen) + self._waits(seen, waiting)

    def _sum(self, seen: Snapshot) -> list[Text]:
        """Return the line of all files of a copy together."""
        if not (views := self._copied(seen)):
            return []
        done, total = sum(view.done_bytes for view in views), sum(view.total_bytes for view in views)
        rate = sum(view.rate_bytes_per_s for view in views)
        files = "1 file" if len(views) == 1 else f"{len(views)} files"
        return self._file(FileView(files, files, done, total, rate))

    def _head(self, seen: Snapshot) -> Text:
        text = Text(
            heading(seen, "->" if self._ascii else "→"), style="bold", no_wrap=True, overflow="ellipsis"
        )
        return text.append(f"  {duration(seen.elapsed_s)}", style="not bold")

    def _errors(self, seen: Snapshot) -> int:
        return sum(_ERROR_LINES for view in seen.steps if view.mark.error or view.mark.undo_error)

    def _steps(self, seen: Snapshot, room: int) -> list[Text]:
        first, last = _window(seen, room)
        lines = [] if first == 0 else [self._left_out(seen.steps[:first], "before")]
        for view in seen.steps[first:last]:
            lines += self._step(view, seen)
        if last < len(seen.steps):
            lines.append(self._left_out(seen.steps[last:], "to come"))
        return lines

    def _left_out(self, views: Sequence[StepView], where: str) -> Text:
        steps = "step" if len(views) == 1 else "steps"
        return Text(f"  {len(views)} {steps} {where}", style="dim", no_wrap=True)

    def _step(self, view: StepView, seen: Snapshot) -> list[Text]:
        mark, style = self._mark(view.state)
        host = cut(printable(view.host), max(self._console.width // 5, 4), "~")
        spent = view.mark.duration_s(seen.at)
        right = "" if spent is None else duration(spent)
        if view.state not in (PENDING, DONE):
            right = f"{view.mark.words} {right}".rstrip()
        left = f"{mark} {view.number:>2} {host} "
        name = cut(view.name, max(self._console.width - len(left) - len(right) - 1, 4), "~")
        gap = " " * max(self._console.width - len(left) - len(name) - len(right) - 1, 1)
        lines = [Text(f"{left}{name}{gap}{right}", style=style, no_wrap=True, overflow="crop")]
        return lines + self._error(view.mark.undo_error or view.mark.error)

    def _mark(self, state: str) -> tuple[str, str]:
        fine, plain, style = _MARKS[state]
        return (plain if self._ascii else fine), style

    def _error(self, error: str | None) -> list[Text]:
        if not error:
            return []
        width = max(self._console.width - 6, 10)
        lines = self._broken(printable(error), "red", width)[:_ERROR_LINES]
        return [Text("     ").append_text(line) for line in lines]

    def _broken(self, words: str, style: str, width: int) -> list[Text]:
        """Return the lines of a sentence."""
        lines = list(Text(together(words), style=style).wrap(self._console, width))
        for line in lines:
            line.plain = apart(line.plain)
        return lines

    def _in_place(self, seen: Snapshot) -> list[Text]:
        names = ", ".join(printable(posixpath.basename(path)) for path in seen.in_place)
        return [Text(f"  in place: {names}", no_wrap=True, overflow="ellipsis")] if names else []

    def _copied(self, seen: Snapshot) -> list[FileView]:
        copying = any(view.state == RUNNING and view.name == _COPY for view in seen.steps)
        return [view for view in seen.files if copying and view.total_bytes]

    def _files(self, seen: Snapshot) -> list[Text]:
        views = self._copied(seen)
        lines: list[Text] = []
        for view in views:
            lines += self._file(view)
        if views and seen.paused_by is not None:
            words = f"  paused by {printable(seen.paused_by)}; {command('migration', 'resume', seen.uuid)}"
            lines.append(Text(words, style="yellow", no_wrap=True, overflow="crop"))
        # a server may have more disks than a terminal has lines
        most = max(self._console.height // 2, 2)
        return lines if len(lines) <= most else [*lines[: most - 1], Text(f"  and {len(views)} files in all")]

    def _file(self, view: FileView) -> list[Text]:
        share = min(view.done_bytes / view.total_bytes, 1.0)
        bar = self._bar(share, min(_BAR, self._console.width // 3))
        name = cut(file_name(view), max(self._console.width // 3, 8), "~")
        head, words = f"  {name} {bar} {share:4.0%}", progress(view)
        if len(head) + len(words) + 2 < self._console.width:
            return [Text(f"{head}  {words}", no_wrap=True, overflow="crop")]
        beneath = self._broken(words, "", max(self._console.width - 2, 10))
        return [
            Text(head, no_wrap=True, overflow="crop"),
            *(Text("  ").append_text(line) for line in beneath),
        ]

    def _bar(self, share: float, width: int) -> str:
        full, empty = ("#", "-") if self._ascii else ("█", "░")
        filled = int(share * width)
        return full * filled + empty * (width - filled)

    def _waits(self, seen: Snapshot, waiting: Waiting | None) -> list[Text]:
        if waiting is None:
            return []
        words = f"{waiting.text} ({duration((seen.at - waiting.since).total_seconds())})"
        return self._broken(words, "yellow", self._console.width)[:_ERROR_LINES]

    def _foot(self, seen: Snapshot, waiting: Waiting | None) -> list[Text]:
        if not seen.ended:
            return self._waits(seen, waiting)
        sentence, following = ending(seen)
        style = "bold green" if seen.outcome == "success" else "bold red"
        lines = self._broken(sentence, style, self._console.width)
        return [*lines, Text(f"  next: {following}", overflow="fold")] if following else lines


def _window(seen: Snapshot, room: int) -> tuple[int, int]:
    """Return which steps are shown: all, or those around the one under way."""
    count = len(seen.steps)
    if count <= room:
        return 0, count
    shown = max(room - 2, 1)  # a line each for what is left out above and below
    turn = seen.turn
    middle = turn.number - 1 if turn else count - 1
    first = min(max(middle - shown // 2, 0), count - shown)
    return first, first + shown
