"""What stands around Solyx on one machine: a real Kafka broker, a real PostgreSQL and clusters, as child processes."""
