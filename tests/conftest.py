"""What all tests share: how hard the laws are tried."""

import os

from hypothesis import HealthCheck, settings

_THOROUGH = os.environ.get("TRUECLOCK_THOROUGH") == "1"

settings.register_profile(
    "trueclock",
    deadline=None,  # machines are busy; times are measured by benches, never by tests
    max_examples=1000 if _THOROUGH else 60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("trueclock")
