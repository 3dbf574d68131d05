"""
`python -m migrate` is `profile-migrate`.
"""

from __future__ import annotations

from migrate.cli.main import main

if __name__ == "__main__":
    main()
