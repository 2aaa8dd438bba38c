"""What people do with customers: create, edit, import and merge them, and look for doubled ones."""
