"""The gateway: everything between the wire and the operator."""
