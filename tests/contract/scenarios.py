"""The contract: requests in scenarios, each answered alike by a real Consul and by the embedded agent."""

from __future__ import annotations

from . import scenarios_endpoints, scenarios_keys, scenarios_sessions, scenarios_transactions
from .steps import SCENARIOS, Scenario, Step

__all__ = ["SCENARIOS", "Scenario", "Step"]

#: Where they come from; importing them is what fills SCENARIOS.
SECTIONS = (scenarios_endpoints, scenarios_sessions, scenarios_keys, scenarios_transactions)
