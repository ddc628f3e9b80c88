"""Runs whose results are committed: a configuration on top, `main(config)`, results/ beside it."""
