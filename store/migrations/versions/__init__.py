"""One file a step; old and new code can both live with the schema between two steps."""
