"""One suite for both faces and all agents: what a Locker does, seen from outside."""
