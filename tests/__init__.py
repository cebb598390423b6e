"""Real peers, real files, virtual time. Nothing here is shipped."""
