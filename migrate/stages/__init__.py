"""
What must hold before something changes: the checks of doctor and the figures of plan.
"""
