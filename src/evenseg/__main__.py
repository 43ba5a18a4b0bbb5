"""`python -m evenseg`: the command line."""

from evenseg.cli import main

main()
