"""
Values that flow, events that report, and the ports that engines are written against.
"""
