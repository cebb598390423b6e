"""Features, training, runtimes and bundles. Arrays in, arrays out: no clock, no asyncio."""
