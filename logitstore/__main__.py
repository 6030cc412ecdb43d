"""`python -m logitstore` is the command `logitstore`."""

from logitstore.cli import main

if __name__ == "__main__":
    main(prog_name="logitstore")
