"""
The SQL source against real servers.
"""
