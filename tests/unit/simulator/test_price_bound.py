"""A bound on a site's price in a simulated scenario: the cores' requests and answers reach each other within the moment."""

from datetime import timedelta

from simulator.experiment import Experiment
from solyx.scenario import load_scenario
