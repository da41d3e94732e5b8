"""Those who wait at a key, when one of them serves the others."""

from __future__ import annotations

from consul_locker.core.requests import KeysRead, Watch
from consul_locker.lease import BaseLease

from .helpers import PENDING, Driver, held

KEY = "svc/a/lock"


class Wavering:
    """A user's strategy that does not serve when it is asked first, and does from then on."""

    shares_in_flight = True

    def __init__(self) -> None:
        self.asked = 0

    def keeps(self, lease: BaseLease) -> bool:
        return True

    def serves(self, lease: BaseLease, now: float) -> bool:
        self.asked += 1
        return self.asked > 1


def test_what_is_done_for_the_first_who_waits_serves_the_next_one_too() -> None:
    """Each is answered once, and nothing more is asked of Consul."""
    driver = Driver(strategy=Wavering()).ready()
    first = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    second = driver.call("lock", "a", wait=None)
    together = driver.call("lock_many", "a", "b")
    driver.grant()
    lease = driver.result(together)[0]
    assert driver.result(first) == driver.result(second) == PENDING  # the watch tells when to go on
    (watch,) = (each for each in driver.all(Watch) if each.name == KEY)
    driver.answer(watch, KeysRead((), 300))
    assert driver.result(first) is driver.result(second) is lease
    assert "a" not in driver.core.ledger.slots  # and nobody waits
