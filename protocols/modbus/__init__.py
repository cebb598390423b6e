"""Modbus: TCP, TLS, UDP, RTU and ASCII, read-only; see `modbus.md`."""

from protocols.modbus.config import Config

__all__ = ["Config"]
