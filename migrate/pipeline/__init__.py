"""
The engines: generators over ports that yield events. No driver, no clock of their own, no printing.
"""
