"""`python -m rie` is the `rie` command."""

from rie.cli.app import main

if __name__ == "__main__":
    main()
