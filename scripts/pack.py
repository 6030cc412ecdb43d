"""The same as `python -m distill.pack`, under its first name."""

from distill.pack import main

if __name__ == "__main__":
    main()
