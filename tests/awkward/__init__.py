"""
Awkward values and schemas: a table of them for each dialect, each with what has to become of it.
"""
