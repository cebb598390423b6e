"""What becomes of a sample between the channel and the operator."""
