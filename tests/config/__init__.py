"""consul_locker.config: options and where they come from."""
