"""The gateway: REST in, jobs on the log through a transactional outbox, and a read model of everything that was decided."""
