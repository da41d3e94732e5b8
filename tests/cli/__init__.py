"""consul_locker.cli: the command `consul-locker`."""
