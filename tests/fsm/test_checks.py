"""A strict table refuses what is not valid, and says where it stands and which name is nearest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from consul_locker.fsm import Action, Defer, Fsm, Input, Row, State, Table, TableError, UnknownInput, extend
from consul_locker.fsm.checks import ANY_STATE


class Names(str, Enum):
    IDLE = "idle"
    BUSY = "busy"
    GO = "go"


class Plain(Enum):
    IDLE = "idle"


class Async:
    async def __call__(self, client: Any) -> None:
        """Never run."""

    async def method(self, client: Any) -> None:
        """Never run."""


async def coroutine(client: Any) -> None:
    """Never run."""


def generator(client: Any) -> Any:
    yield client


def act(client: Any, *args: Any) -> None:
    """Do nothing."""


def idle(**inputs: Any) -> dict[str, State]:
    return {"idle": State(inputs=inputs), "busy": State()}


MISTAKES: list[tuple[Any, str]] = [
    ([], "states: [] is no mapping"),
    ({}, "initial_state: 'idle' is not among the states"),
    ({1: State()}, "states: 1 is no name: a string"),
    ({Plain.IDLE: State()}, "states: <Plain.IDLE: 'idle'> is no name: make the Enum one of strings"),
    ({"idle": {}}, "states['idle']: {} is no State(...)"),
    ({"idle": State(inputs=[])}, "states['idle'].inputs: [] is no mapping"),
    ({"idle": State(inputs={2: act})}, "states['idle'].inputs: 2 is no name"),
    ({"idle": State(), " x": State()}, "states: ' x' cannot be drawn"),
    ({"idle": State(), "a\nb": State()}, "states: 'a\\nb' cannot be drawn"),
    ({"idle": State(), ANY_STATE: State()}, "states: '(any state)' cannot be drawn"),
    (idle(**{"": act}), "states['idle'].inputs: '' cannot be drawn"),
    (idle(**{"go to x": act}), "states['idle'].inputs: 'go to x' is taken"),
    (idle(fsm_state=act), "states['idle'].inputs: 'fsm_state' is taken"),
    (idle(go="bussy"), "states['idle'].inputs['go']: 'bussy' is not among the states; did you mean 'busy'?"),
    (idle(go="x"), "'x' is not among the states; it is one of 'idle', 'busy'"),
    (idle(go=3), "states['idle'].inputs['go']: 3 is no reaction"),
    (idle(go=Defer("idel")), "inputs['go'], Defer: 'idel' is not among the states; did you mean 'idle'?"),
    (idle(go=Defer(("busy", "bsy"))), "Defer: 'bsy' is not among the states; did you mean 'busy'?"),
    (idle(go=Defer(())), "inputs['go']: () waits for no state at all"),
    (idle(go=Defer(Plain.IDLE)), "Defer: <Plain.IDLE: 'idle'> is no name of a state: make the Enum"),
    (idle(go=Defer(4)), "Defer: 4 is no name of a state: a string"),
    (idle(go=coroutine), "would not run when it is called"),
    (idle(go=Async()), "would not run when it is called"),
    (idle(go=Async().method), "would not run when it is called"),
    (idle(go=functools.partial(coroutine)), "would not run when it is called"),
    (idle(go=generator), "would not run when it is called"),
    (idle(go=lambda: None), "cannot take the client as its first argument"),
    (idle(**{"*": lambda client: None}), "cannot take the client and the name of the input as its first arguments"),
    (idle(go=lambda client, *, key: None), "needs more than it is given: key"),
    (idle(go=Action(5, "x")), "states['idle'].inputs['go'], Action: 5 cannot be called"),
    (idle(go=Action(coroutine)), "inputs['go'], Action: <function coroutine"),
    (idle(go=Action(act, 5)), "inputs['go'], label: 5 is no string"),
    (idle(go=Action(act, goes_to="busy")), "inputs['go'], goes_to: 'busy' is no tuple"),
    (idle(go=Action(act, goes_to=("bsy",))), "goes_to: 'bsy' is not among the states; did you mean 'busy'?"),
    ({"idle": State(on_enter="busy")}, "states['idle'].on_enter: 'busy' is no function"),
    ({"idle": State(on_exit=coroutine)}, "states['idle'].on_exit: <function coroutine"),
    ({"idle": State(on_enter=lambda client, more: None)}, "states['idle'].on_enter: "),
    ({"idle": State(on_enter=Action(lambda client, more: None))}, "needs more than it is given: more"),
    ({"idle": State(child=5)}, "states['idle'].child: 5 is no Table"),
    ({"idle": State(child=lambda: None)}, "states['idle'].child: "),
]


@pytest.mark.parametrize(("states", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_told_with_its_place(states: Any, message: str) -> None:
    with pytest.raises(TableError) as caught:
        Table(states, initial_state="idle")
    assert message in str(caught.value)
    assert caught.value.place


def test_a_machine_is_made_of_a_table() -> None:
    with pytest.raises(TypeError, match=r"made of a Table, not of \{\}; Fsm.of\(\) takes states"):
        Fsm({})  # type: ignore[arg-type]


def test_the_error_has_its_parts() -> None:
    with pytest.raises(ValueError, match="did you mean") as caught:
        Table(idle(go="bussy"), initial_state="idle")
    assert isinstance(caught.value, TableError)
    assert caught.value.place == "states['idle'].inputs['go']"
    assert (caught.value.value, caught.value.nearest) == ("bussy", "busy")


def test_other_arguments_are_looked_at_too() -> None:
    with pytest.raises(TableError, match=r"inputs: 'go' is never looked for on the machine itself"):
        Table(idle(), initial_state="idle", inputs={"go": "busy"})
    with pytest.raises(TableError, match=r"inputs\['\*'\]: 'bsy' is not among the states"):
        Table(idle(), initial_state="idle", inputs={"*": "bsy"})
    with pytest.raises(TableError, match="namespace: 5 is no string"):
        Table(idle(), initial_state="idle", namespace=5)  # type: ignore[arg-type]


def test_long_lists_of_names_are_not_shown() -> None:
    with pytest.raises(TableError) as caught:
        Table({f"state number {n}": State(inputs={"go": "x"}) for n in range(20)}, initial_state="state number 0")
    assert str(caught.value).endswith("'x' is not among the states")


class Callable_:
    def __call__(self, client: Any) -> str:
        return "called"


def test_what_makes_sense_is_taken() -> None:
    log: list[Any] = []
    table = Table(
        {
            "idle": State(
                on_enter=Action(lambda client: None, "say hello"),
                inputs={
                    "builtin": log.append,
                    "partial": functools.partial(act, 1),
                    "called": Callable_(),
                    "class": dict,
                    "untold": type,  # its signature is not known
                    "nothing": None,
                    "*": lambda client, name, *args: name,
                },
            )
        },
        initial_state="idle",
        inputs={"*": act},
    )
    fsm = Fsm(table)
    assert fsm.handle("called") == "called"
    assert fsm.handle("surprise") == "surprise"


def test_lenient_tables_take_what_machina_takes() -> None:
    states = idle(go="nowhere", later=Defer("nowhere"), fail=lambda: None)
    fsm = Fsm.of(states, initial_state="idle", inputs={"go": act}, strict=False)
    assert fsm.handle("go") == "nowhere"
    assert fsm.handle("unheard of") is None
    fsm.on("transtion", act)


# ---------------------------------------------------------------------------------------- names of an Enum


def test_states_and_inputs_may_be_members_of_an_enum_of_strings() -> None:
    table = Table(
        {
            Names.IDLE: State(
                inputs={Names.GO: Names.BUSY, "wait": Defer(Names.BUSY), "either": Defer((Names.BUSY, "idle"))}
            ),
            Names.BUSY: State(inputs={"back": Action(act, goes_to=(Names.IDLE,)), "wait": act, "either": act}),
        },
        initial_state=Names.IDLE,
    )
    assert list(table.states) == ["idle", "busy"]
    assert all(type(name) is str for name in table.states)
    fsm = Fsm(table)
    fsm.handle("wait")
    fsm.handle("either")
    assert fsm.handle(Names.GO) == "busy"
    assert fsm.input_queue == ()
    assert fsm.state == Names.BUSY
    assert type(fsm.state) is str
    fsm.transition(Names.IDLE)
    assert fsm.state == "idle"
    fsm.handle(Input(Names.GO))
    fsm.defer_until_transition(Names.IDLE)
    assert fsm.input_queue[0].until == "idle"
    fsm.clear_queue(Names.IDLE)
    assert fsm.input_queue == ()
    assert Row("busy", "back", "action", None, "", ("idle",)) in list(table.rows())
    assert fsm.can_handle(Names.GO) is False
    assert fsm.knows(Names.GO)


# ------------------------------------------------------------------------------------------ unknown inputs


def test_an_input_that_no_state_knows_is_an_error_with_the_nearest_name() -> None:
    fsm = Fsm.of(idle(start="busy"), initial_state="idle", namespace="m")
    with pytest.raises(UnknownInput, match="'m', which is in 'idle', knows the input 'strat'; did you mean 'start'"):
        fsm.handle("strat")
    with pytest.raises(UnknownInput) as caught:
        fsm.handle(5)
    assert (caught.value.input, caught.value.state, caught.value.nearest) == (5, "idle", None)
    with pytest.raises(UnknownInput):
        fsm.handle(Input("strat"))
    assert fsm.state == "idle"


def test_an_input_that_another_state_knows_is_not_handled_here() -> None:
    fsm = Fsm.of(idle(start="busy"), initial_state="busy")
    heard: list[Any] = []
    fsm.on("nohandler", heard.append)
    assert fsm.handle("start") is None
    assert [data["input"] for data in heard] == ["start"]


@pytest.mark.parametrize("options", [{}, {"inputs": {"*": act}}])
def test_a_catch_all_knows_every_input(options: Mapping[str, Any]) -> None:
    states = idle(**({} if options else {"*": act}))
    for state in ("idle", "busy"):
        fsm = Fsm.of(states, initial_state=state, **options)
        fsm.handle("anything")


# ------------------------------------------------------------------------------------------------ listeners


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        ("transtion", "transition"), ("transitions", "transition"), ("noHandler", "nohandler"), ("handeld", "handled"),
        ("no_handler", "nohandler"), ("Handling", "handling"), ("invalid_state", "invalidstate"),
        ("defered", "deferred"),
    ],
)  # fmt: skip
def test_a_near_miss_of_an_event_of_the_machine_is_refused(event: str, meant: str) -> None:
    fsm = Fsm.of(idle(), initial_state="idle")
    with pytest.raises(TableError, match=f"on\\(\\): '{event}' is no event of a machine; did you mean '{meant}'\\?"):
        fsm.on(event, act)


def test_other_events_are_the_user_s_own() -> None:
    fsm = Fsm.of(idle(), initial_state="idle")
    for event in ("*", "transitioned", "door opened", "alarm", "lock_acquired"):
        fsm.on(event, act)


# ------------------------------------------------------------------------------------------------ deferrals


def test_an_input_may_wait_for_one_of_several_states() -> None:
    log: list[Any] = []
    states = {
        "s0": State(inputs={"a": Defer(("s2", "s3"))}),
        "s1": State(inputs={"a": lambda client: log.append("s1")}),
        "s2": State(inputs={"a": lambda client: log.append("s2")}),
        "s3": State(inputs={"a": lambda client: log.append("s3")}),
    }
    for onwards, seen in (("s2", ["s2"]), ("s3", ["s3"])):
        log.clear()
        fsm = Fsm.of(states, initial_state="s0")
        fsm.handle("a")
        assert fsm.input_queue[0].until == ("s2", "s3")
        fsm.transition("s1")
        assert log == []
        fsm.transition(onwards)
        assert log == seen
        assert fsm.input_queue == ()
    rows = [row for row in Table(states, initial_state="s0").rows() if row.kind == "defer"]
    assert rows == [Row("s0", "a", "defer", "s2", "defer until s2 or s3")]
    lenient = Table({"s0": State(inputs={"a": Defer(())})}, initial_state="s0", strict=False)
    assert next(lenient.rows()).target is None


# ------------------------------------------------------------------------------------------------- extend


def test_extend_merges_states_as_machina_does() -> None:
    first = Table(
        {"s0": State(on_enter=act, inputs={"a": "s1", "b": "s1"}), "s1": State(on_exit=act)}, initial_state="s0"
    )
    more = {"s0": State(on_exit=act, inputs={"b": None, "c": "s2"}), "s2": State()}
    states = extend(first, more)
    assert list(states) == ["s0", "s1", "s2"]
    assert dict(states["s0"].inputs) == {"a": "s1", "b": None, "c": "s2"}
    assert (states["s0"].on_enter, states["s0"].on_exit) == (act, act)
    assert Fsm.of(states, initial_state="s0").handle("c") == "s2"
    assert list(first.states) == ["s0", "s1"]
    child = Table({"c": State()}, initial_state="c")
    assert extend({"s": State(child=child)}, {"s": State()})["s"].child is child
