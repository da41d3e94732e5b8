"""The pure core: it takes events and the time, and returns commands."""
