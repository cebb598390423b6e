"""The vocabulary that every layer shares. Imports nothing of ours outside this package."""
