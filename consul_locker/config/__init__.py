"""Validated options, and the environment that they come from."""
