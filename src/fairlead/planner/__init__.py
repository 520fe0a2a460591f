"""Searches over fleets and policies, each question answered by simulations."""
