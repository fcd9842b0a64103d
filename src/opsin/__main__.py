"""`python -m opsin`: the command line."""

from opsin.cli import main

if __name__ == "__main__":
    main()
