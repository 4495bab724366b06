"""``python -m segue`` is the same as ``segue``."""

from segue.cli import main

if __name__ == "__main__":
    main()
