"""`python -m simulator`: the simulated Voice Live. It only starts the command line."""

from simulator.voicelive.cli import main

main(prog_name="python -m simulator")
