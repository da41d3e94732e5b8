"""Faults between a Locker and Consul, and what Consul itself can do to a lock, on both agents."""
