"""Serial lines and frames. `import serial` inside this package is pyserial, never this package."""

from protocols.serial.config import Config

__all__ = ["Config"]
