"""Every error of hostler, sorted by what the operator does next.

::

    HostlerError
    ├── Refused              nothing was changed: mend the cause, ask again          (exit code 3)
    ├── Passing              a server or peer did not answer; asked again by itself  (exit code 1)
    ├── Failed               a step failed: its migration was, or is being, undone   (exit code 4)
    └── NeedsOperator        parked; the error names the commands that resolve it    (exit code 5)

    Interrupted              not an error of the step: its leg must stop here and now. The step stays
    ├── Fenced               RUNNING and is carried out again by whoever claims the job next. It derives
    ├── SessionLost          from BaseException, since TaskFlow answers every Exception by undoing the flow.
    ├── Unreachable
    ├── Stopping
    └── Park                 the leg stops, and the job leaves the board for the operator

An error carries its facts as attributes and builds its sentence from them; *hint* is what to type next::

    [on HOST: ]COMMAND[; what is to be known of it]

Every refusal has one, and its command is one of hostler's or one that hosts have. It is the error's second argument:
TaskFlow keeps an error's arguments, and so it is known of one that was raised in a step.
The names of the leaves are Nova's wherever Nova has one. Each branch is a module, but they are all imported from here,
and this is where they are from as far as records are concerned.
"""

from __future__ import annotations

from hostler.errors.base import *
from hostler.errors.failed import *
from hostler.errors.interrupted import *
from hostler.errors.parked import *
from hostler.errors.passing import *
from hostler.errors.refused import *

# TaskFlow puts down of each failure what it is by module and name, and workers of other versions read that.
for _error in [*vars().values()]:
    if isinstance(_error, type) and issubclass(_error, BaseException):
        _error.__module__ = __name__
