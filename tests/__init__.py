"""
What the program promises, shown on real servers.
"""
