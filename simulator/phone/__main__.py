"""`python -m simulator.phone`; it only starts the command line."""

from simulator.phone.cli import main

main(prog_name="python -m simulator.phone")
