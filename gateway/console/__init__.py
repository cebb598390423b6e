"""The operator's web pages, live updates and sign-in."""
