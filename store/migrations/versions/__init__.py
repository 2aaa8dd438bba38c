"""One file per revision; old and new code both work with the schema between two revisions."""
