"""`python -m torchbcos`: the command line, where no script of that name is on the path."""

from torchbcos.cli.__main__ import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
