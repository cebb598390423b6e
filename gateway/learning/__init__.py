"""Models that are made on the box: collecting, training beside the work, shadow, promotion."""
