"""See krm_sops.recipients, which functions ask as well."""

from krm_sops.recipients import RecipientDrift, differences, drift, is_same_key, selection_drift, told

__all__ = ["RecipientDrift", "differences", "drift", "is_same_key", "selection_drift", "told"]
