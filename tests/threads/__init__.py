"""consul_locker.threads: the face for threads."""
