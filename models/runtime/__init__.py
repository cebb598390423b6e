"""Runs a bundle's graph on the device that the box has."""
