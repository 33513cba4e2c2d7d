"""Every limit that a target may set: the figure it is held against, and how it is judged and shown."""

from stages.common.limits.assessment import Assessment, RatioBounds, Retention
from stages.common.limits.readings import CROWDED, Reading
from stages.common.limits.table import LIMITS, LimitSpec, spec_of

__all__ = ["CROWDED", "LIMITS", "Assessment", "LimitSpec", "RatioBounds", "Reading", "Retention", "spec_of"]
