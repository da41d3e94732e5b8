#!/usr/bin/env python3
"""Orders of a shop: one table for all of them, kept over a restart. No Consul.

    python examples/order.py

`Behavior` keeps the state of each order, as long as the order lives; the order knows nothing of it. A snapshot is what
is to be kept of that when the program ends: text for a file, or a column of a database.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from consul_locker.fsm import Action, Behavior, Defer, State, Table


@dataclass(eq=False)
class Order:
    """An order, as it is without any machine."""

    number: int
    history: list[str] = field(default_factory=list)

    def tell(self, what: str) -> None:
        """Note what happened."""
        self.history.append(what)
        print(f"order {self.number}: {what}")

    def refund(self) -> None:
        """Give the money back."""
        self.tell("refunded")


TABLE: Table[Order] = Table(
    {
        "new": State(
            inputs={
                "pay": "paid",
                "ship": Defer("paid"),  # the store may be faster than the bank
                "cancel": "cancelled",
            }
        ),
        "paid": State(
            on_enter=lambda order: order.tell("paid"),
            inputs={"ship": "shipped", "cancel": Action(lambda order: cancel_paid(order), "refund", ("cancelled",))},
        ),
        "shipped": State(
            on_enter=lambda order: order.tell("shipped"),
            inputs={"cancel": Action(lambda order: order.tell("it is too late to cancel"), "refuse")},
        ),
        "cancelled": State(on_enter=lambda order: order.tell("cancelled")),
    },
    initial_state="new",
    namespace="order",
)
orders = Behavior(TABLE)


def cancel_paid(order: Order) -> None:
    """Give the money back first."""
    order.refund()
    orders.transition(order, "cancelled")


def main() -> None:
    """Three orders, and a restart in between."""
    first, second, third = (Order(number) for number in (1, 2, 3))
    orders.handle(first, "ship")  # it waits for the money
    orders.handle(first, "pay")
    orders.handle(first, "cancel")
    orders.handle(second, "pay")
    orders.handle(second, "cancel")
    orders.handle(third, "ship")

    kept = json.dumps(orders.snapshot(third))
    print(f"kept: {kept}")
    again = Order(3)  # as another program reads it from its database
    orders.restore(again, json.loads(kept))
    orders.handle(again, "pay")  # and it is shipped at once: what waited was kept, too


if __name__ == "__main__":
    main()
