"""
What people and machines see of a run: progress, tables, log lines, metrics.
"""
