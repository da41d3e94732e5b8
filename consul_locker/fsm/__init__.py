"""Finite state machines with a deferred-input buffer: machina.js 1.x semantics on `transitions`.

A `Table` says what each input does in each state. It is ONE `transitions.Machine`, built once: every
input of every state is a row of it (an input that goes to a state has a destination, any other is an
internal transition), and only that machine changes a state. An `Fsm` is one model of a table with a
queue and listeners of its own, light enough to have thousands of them.

What an input does is looked up in this order: the child of the present state, if it has one; the state's own
handler, the state's catch-all ``"*"``, the machine's catch-all; else the event ``nohandler`` is emitted. A handler may
*defer* the input: it is queued until the next transition, or until a certain state is entered, and then handled
again, first in, first out, after the entry action and before ``handled``.

Events (`Fsm.on`), each with a dict that holds ``namespace`` and:

==================  =================================================================================
``transition``      ``from_state`` (None at the first), ``to_state``, ``action`` (``"state.input"`` or "")
``transitioned``    the same, after the entry action; only when it has a listener of its own (``*`` is not enough)
``handling``        ``input``; before a handler runs
``handled``         ``input``; after it, and after all the transitions and replays it led to
``nohandler``       ``input``, ``args``
``invalidstate``    ``state``, ``attempted_state``
``deferred``        ``state``, ``until`` (None: the next transition), ``input``, ``args``
==================  =================================================================================

An input given as an `Input`, and any in machines with children, adds its flags to the events that carry ``input``.

Errors of handlers, entry actions and (without ``safe_emit``) listeners come out of the call that led
to them, and the machine goes on. Where machina loses something over an error, this machine does not:
an error in an exit action leaves the state as it is and the machine responsive (machina is deaf from
then on), and an error in a replayed input leaves the rest of the batch queued, in order (machina
drops it).
"""

from .behavior import Behavior
from .errors import TableError, TooDeep, UnknownInput, WrongThread
from .events import Listener, Subscription
from .inspection import Finding, inspect
from .machine import Fsm
from .spec import CATCH_ALL, START, Action, Defer, Input, Queued, Reaction, Row, State, Table, extend
from .threads import MAX_DEPTH
from .walks import WalkFailed, always_reaches, never_reaches, walk

__all__ = [
    "CATCH_ALL",
    "MAX_DEPTH",
    "START",
    "Action",
    "Behavior",
    "Defer",
    "Finding",
    "Fsm",
    "Input",
    "Listener",
    "Queued",
    "Reaction",
    "Row",
    "State",
    "Subscription",
    "Table",
    "TableError",
    "TooDeep",
    "UnknownInput",
    "WalkFailed",
    "WrongThread",
    "always_reaches",
    "extend",
    "inspect",
    "never_reaches",
    "walk",
]
