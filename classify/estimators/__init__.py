"""The scikit-learn estimators, and what they share: calibrations, prompts to choose."""
