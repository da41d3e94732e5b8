#!/usr/bin/env python3
"""A traffic light: ten lines to begin with, and no Consul.

python examples/traffic_light.py
"""

from consul_locker.fsm import Defer, Fsm, State

light = Fsm.of(
    {
        "red": State(inputs={"next": "green", "walk": lambda me: print("people walk")}),
        "green": State(inputs={"next": "yellow", "walk": Defer("red")}),
        "yellow": State(inputs={"next": "red", "walk": Defer("red")}),
    },
    initial_state="red",
)
light.on("transition", lambda data: print(f"{data['from_state']} -> {data['to_state']}"))
for given in ("walk", "next", "walk", "next", "next"):  # the second "walk" comes at green, and waits for red
    light.handle(given)
