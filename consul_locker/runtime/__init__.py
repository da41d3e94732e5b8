"""What both faces share: clock, event loop, watches, delivery of signals, the bases of factory and Locker."""
