"""Grids of runs, of configs, environments and seeds, spread over a machine or a cluster by Ray."""
