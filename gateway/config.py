"""From the file to typed settings: every fault at once, each with its line."""
