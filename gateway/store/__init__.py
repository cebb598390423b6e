"""What is kept: the durable log, trends, and the way to InfluxDB."""
