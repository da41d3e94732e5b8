"""consul_locker.fsm: machines from tables."""
