"""What a person asks for in one go. Import from its modules: most need no torch, and then none is loaded."""
