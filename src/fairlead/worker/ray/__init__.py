"""Instances as actors on a Ray cluster. Only `broker.py` and `actor.py` import Ray, in processes of
their own: a gateway must not die with its cluster."""
