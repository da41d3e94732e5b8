"""One suite for both faces and both agents: what a Locker does, seen from outside."""
