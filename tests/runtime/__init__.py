"""consul_locker.runtime: what both faces run a core with."""
