"""
What a mapping file says, checked, and compiled into functions between rows and records.
"""
