"""How long a step takes: closed forms, fitting, profiles of measured hardware."""

from fairlead.latency.accuracy import FitError, Point, measure_error
from fairlead.latency.coefficients import from_coefficients
from fairlead.latency.forms import Form, Linear, ThirteenCoefficients
from fairlead.latency.model import LatencyModel, StepShape
from fairlead.latency.profile import Profile
from fairlead.latency.profile_file import list_profiles, load_profile

__all__ = [
    "FitError",
    "Form",
    "LatencyModel",
    "Linear",
    "Point",
    "Profile",
    "StepShape",
    "ThirteenCoefficients",
    "from_coefficients",
    "list_profiles",
    "load_profile",
    "measure_error",
]
