"""The tests of consul_locker."""
