"""A simulated plant behind real protocol servers, in a process of its own."""
