"""consul_locker.embedded: the agent for tests; that it answers like a Consul is shown in tests/contract/."""
