"""Stores: one noun a file. Settings, the process, URLs, health, the store's own shell."""
