"""An embedded Consul agent for demos, tests and development; it keeps nothing and listens on loopback only.

::

    from consul_locker.embedded import Agent, ManualClock

    with Agent(clock=ManualClock()) as agent:
        ...  # agent.address is where Consul's HTTP API answers
        agent.advance(3600)  # an hour of TTLs in a moment

``python -m consul_locker.embedded --port 8500`` runs one for other programs on the machine. docs/embedded.rst
tells what it answers, beside a real agent's answers.
"""

from .agent import Agent
from .clock import ManualClock
from .policy import RequestLimits

__all__ = ["Agent", "ManualClock", "RequestLimits"]
