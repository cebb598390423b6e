"""Stages between the sources and the alarms: supervise, derive, windows, assess."""
