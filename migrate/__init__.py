"""
profile-migrate: move profiles from SQL to Redis, prove it, and go back.
"""

__version__ = "0.1.0"
