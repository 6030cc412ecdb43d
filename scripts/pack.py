"""The same as `python -m distill.pack`, under its first name."""

from distill.pack import main

main()
