"""
The ledger: what is done, by whom, how far, and what could not be moved (ADR 0004).
"""
