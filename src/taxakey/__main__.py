"""`python -m taxakey` is the command `taxakey`."""

from taxakey.cli.main import main

if __name__ == "__main__":
    main()
