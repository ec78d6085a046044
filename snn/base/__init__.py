"""Basics that every other room uses: errors, files, memory, ranks."""
