"""consul_locker.fsm.diagrams: drawings of machines."""
