"""Alarms to ISA-18.2 and OPC UA Part 9: states, engine, notifications, metrics."""
