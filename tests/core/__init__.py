"""The core on its own: events and the time go in, commands come out."""
