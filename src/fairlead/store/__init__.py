"""What outlives a gateway: tenants, their keys, what they used. In SQLite or PostgreSQL."""
