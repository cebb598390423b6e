"""`python -m gateway` is `forewarn`."""

from gateway.cli import main

main()
