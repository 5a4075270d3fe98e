"""What runs beside the requests: the outbox relay, the projector of the read model, and the watch over broker and database."""
