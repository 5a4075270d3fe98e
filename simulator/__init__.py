"""The production cores under a virtual clock, beside published baselines and a lower bound: traces in, reports out."""
