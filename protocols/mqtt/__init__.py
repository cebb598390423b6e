"""Listens at an MQTT broker to what machines publish; publishes nothing."""

from protocols.mqtt.config import Config

__all__ = ["Config"]
