"""The bus: Kafka in production, an in-memory twin under the same contract tests, and the runner of decision cores."""
