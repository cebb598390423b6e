"""`python -m gateway.demo` runs the simulated plant alone."""

from gateway.demo.plant import main

main()
