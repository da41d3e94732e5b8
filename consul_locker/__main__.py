"""``python -m consul_locker``: the command ``consul-locker``, where scripts are not on the PATH."""

from .cli import main

if __name__ == "__main__":
    main()
