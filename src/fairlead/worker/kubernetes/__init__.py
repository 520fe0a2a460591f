"""Instances as pods of a Deployment, whose number is set by its scale subresource."""
