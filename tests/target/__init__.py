"""
The Redis side, against real servers.
"""
