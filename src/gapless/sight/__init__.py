"""What a stack tells of itself to those who watch it from outside."""
