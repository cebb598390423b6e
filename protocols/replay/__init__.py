"""Plays a recording as if a machine were there; for commissioning and for tests."""

from protocols.replay.config import Config

__all__ = ["Config"]
