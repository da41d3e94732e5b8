"""Consul as the runtimes reach it: requests (pure) and transport."""
