"""Numbers that describe a window or a waveform."""
