"""Workloads that nobody recorded: arrivals, lengths and shared prefixes drawn from a seed."""
