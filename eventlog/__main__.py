"""`python -m eventlog` is the command `eventlog`."""

from .cli import main

main()
