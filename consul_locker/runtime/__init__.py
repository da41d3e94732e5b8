"""What both faces share: clock, event loop, watches, delivery of signals, the base of factory and Locker."""
