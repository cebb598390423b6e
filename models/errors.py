"""Every error that the models raise on purpose, and who acts on it.

ModelError
  RecordError     the data cannot be learned from or scored as asked; the caller gives other data
  BundleError     a bundle must not run here; the last good one stays
  DeviceError     a device cannot run models; the CPU goes on
"""


class ModelError(Exception):
    """Base of every error raised on purpose."""


class RecordError(ModelError):
    """The record does not allow what was asked: names the column, the rows, and what to do."""


class BundleError(ModelError):
    """A bundle is damaged, unsigned, foreign, or gives other numbers here than promised."""


class DeviceError(ModelError):
    """The device is not here, lacks its plugin, or failed in service."""
