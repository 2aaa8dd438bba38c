"""Settings, marketplace files and logging."""
