"""Whether the fleet takes a request at all."""

from fairlead.policies.admission.parts import AdmissionPolicy

__all__ = ["AdmissionPolicy"]
