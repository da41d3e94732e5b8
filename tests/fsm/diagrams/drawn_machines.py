"""Machines for the tests of drawings."""

from __future__ import annotations

import random
from typing import Any

from consul_locker.fsm import Action, Defer, Fsm, State, Table


def run_job(client: Any, *args: Any) -> None:
    """A handler with a name."""


LAMP = Table(
    {
        "dark": State(on_enter=Action(lambda client: None, "switch off"), inputs={"press": "bright", "bad": "dark"}),
        "bright": State(on_exit=run_job, inputs={"press": "dark"}),
    },
    initial_state="dark",
    namespace="lamp",
)

NESTED = Table(
    {
        "standby": State(inputs={"lead": "leading", "job": Defer("leading")}),
        "leading": State(
            child=LAMP, inputs={"job": Action(run_job, "run it", goes_to=("backoff",)), "rest": "standby"}
        ),
        "backoff": State(on_enter=Action(run_job, goes_to=("standby",)), inputs={"poke": run_job}),
        "away": State(child=lambda client: Fsm(LAMP), inputs={"back": "standby"}),
    },
    initial_state="standby",
    inputs={"*": "away"},
    namespace="service",
)

ODD = Table(
    {
        "one": State(
            inputs={
                "to itself": "one",
                "nowhere": "no state",
                "explicitly nothing": None,
                "nothing too": Action(lambda client: None, "nothing"),
                "plain": lambda client: None,
                "later": Defer(),
                "a": "the #2",
                "b": "the #2",
                "may": Action(run_job, "may", goes_to=("no state", "one")),
                "*": lambda client, name: None,
            }
        ),
        "the #2": State(inputs={"back": "one", "wait": Defer("one")}),
        " ": State(child=LAMP),
    },
    initial_state="one",
    inputs={"*": "one"},
    namespace='an "odd" \\ <machine>',
    strict=False,
)


def large(states: int = 60, inputs: int = 3) -> Table:
    """A machine of many states with inputs that lead anywhere, always the same ones."""
    chance = random.Random(3)
    names = [f"state_{number}" for number in range(states)]
    return Table(
        {
            name: State(
                inputs={
                    f"input_{which}": chance.choice(names) if which else names[(number + 1) % states]
                    for which in range(inputs)
                }
            )
            for number, name in enumerate(names)
        },
        initial_state=names[0],
    )
