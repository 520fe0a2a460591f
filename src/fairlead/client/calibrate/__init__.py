"""Makes traffic that shows how fast an engine is, and listens to it."""
