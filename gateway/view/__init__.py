"""What may be seen of a running gateway, and what may be asked of it: for console and terminal."""
