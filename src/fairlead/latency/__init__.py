"""How long a step takes: closed forms, fitting, profiles of measured hardware."""

from fairlead.latency.accuracy import FitError, Point, measure_error
from fairlead.latency.coefficients import closed_form, from_coefficients
from fairlead.latency.effects import EFFECTS, Model, with_effect
from fairlead.latency.forms import Form, Linear, ThirteenCoefficients
from fairlead.latency.model import LatencyModel, StepShape
from fairlead.latency.nanoflow import Nanoflow
from fairlead.latency.profile import Profile
from fairlead.latency.profile_file import list_profiles, load_profile
from fairlead.latency.semi_pd import SemiPd

__all__ = [
    "EFFECTS",
    "FitError",
    "Form",
    "LatencyModel",
    "Linear",
    "Model",
    "Nanoflow",
    "Point",
    "Profile",
    "SemiPd",
    "StepShape",
    "ThirteenCoefficients",
    "closed_form",
    "from_coefficients",
    "list_profiles",
    "load_profile",
    "measure_error",
    "with_effect",
]
